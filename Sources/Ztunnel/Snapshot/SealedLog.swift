import Glibc
import Linux

/// A sealed file that grows by records and can be read again up to the last one that was written whole. Used by one thread
/// at a time.
final class SealedLog {
  private let kind: SealedFile.Kind
  private let vault: SnapshotVault
  private let file: SharedDescriptor
  /// What seals the next record; nil where none may be added.
  private var form: SealedFile?
  /// Bytes of the header and of all whole records.
  private(set) var size: Int
  /// Number of the next record.
  private(set) var count: UInt64

  private var path: String { vault.path(kind) }

  /// Whether records can be added.
  var isWritable: Bool { form != nil }

  /// Makes an empty one, which nobody finds before ``put()``. Throws ``SystemError`` or ``TLSError``.
  init(making kind: SealedFile.Kind, in vault: SnapshotVault) throws {
    (self.kind, self.vault) = (kind, vault)
    let form = try SealedFile(kind, secret: vault.secret)
    file = SharedDescriptor(try WholeFile.create(beside: vault.path(kind)))
    try WholeFile.write(form.header, to: file.raw, vault.path(kind))
    (size, count) = (form.header.count, 0)
    self.form = form
  }

  /// One that another process has written, and that ends with the record before `count`. Nothing is added: how far its
  /// numbers were used, it cannot tell.
  init(reading file: SharedDescriptor, until count: UInt64, _ kind: SealedFile.Kind, in vault: SnapshotVault) {
    (self.kind, self.vault, self.file, self.count) = (kind, vault, file, count)
    size = 0
  }

  /// Adds a record and returns its number. Where that fails nothing can be added any more. Throws ``SystemError``,
  /// ``TLSError`` or ``SnapshotError``.
  func append(_ record: [UInt8]) throws -> UInt64 {
    guard var form else { throw SystemError("write", EBADF, subject: path) }
    self.form = nil
    let bytes = try form.append(record)
    guard size + bytes.count <= SealedFile.largest else {
      throw SnapshotError.tooLarge(path: path, bytes: size + bytes.count, limit: SealedFile.largest)
    }
    try WholeFile.write(bytes, to: file.raw, path)
    self.form = form
    size += bytes.count
    defer { count += 1 }
    return count
  }

  /// Returns when all records are on the disk. Throws ``SystemError``.
  func synchronize() throws(SystemError) { try system("fdatasync", path) { fdatasync(file.raw) } }

  /// Puts the file in its place, in the one of an earlier file. Throws ``SystemError``.
  func put() throws(SystemError) { try WholeFile.put(file.raw, inPlaceOf: path) }

  /// Whether it is what a reader finds now.
  var isInPlace: Bool { WholeFile.is(file.raw, at: path) }

  /// Removes the file, unless another process has put its own in the place. What was written can still be read.
  func remove() {
    form = nil
    for path in [path, WholeFile.scratch(of: path)] where WholeFile.is(file.raw, at: path) { unlink(path) }
  }

  /// Reads from the first record on; those from ``count`` on are not to be read. Throws ``SnapshotError``.
  func reader() throws(SnapshotError) -> SealedReader { try vault.reader(of: file, kind) }
}
