import Glibc
import Linux
import TLS

/// Reads the records of a ``SealedFile`` one after the other, so that no more than one of them is in memory.
struct SealedReader {
  private let file: SharedDescriptor
  private let path: String
  private let sealer: Sealer
  private var offset: Int
  private let end: Int
  /// Number of the next record.
  private(set) var number: UInt64 = 0

  /// Begins with the first record of an open file; `path` names it in errors. Throws ``SnapshotError`` for what is no such
  /// file, or is larger than one may be.
  init(_ file: SharedDescriptor, _ kind: SealedFile.Kind, secret: [UInt8], path: String) throws(SnapshotError) {
    self.file = file
    self.path = path
    var status = stat()
    guard fstat(file.raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw .unreadable(path: path, reason: "it is no regular file")
    }
    end = Int(status.st_size)
    guard end <= SealedFile.largest else {
      throw .tooLarge(path: path, bytes: end, limit: SealedFile.largest)
    }
    let mark = Array(kind.rawValue.utf8)
    offset = mark.count + Sealer.saltSize
    guard end >= offset else { throw .foreign(path: path) }
    let header = try Self.read(file.raw, 0..<offset, path)
    guard header.starts(with: mark) else { throw .foreign(path: path) }
    guard
      let sealer = try? Sealer(secret: secret, salt: Array(header.dropFirst(mark.count)), purpose: kind.rawValue)
    else { throw .sealBroken(path: path, record: 0) }
    self.sealer = sealer
  }

  /// The next record; nil at the end. Each is whole, or the file is refused: what is missing may be what denies. Throws
  /// ``SnapshotError``.
  mutating func next() throws(SnapshotError) -> [UInt8]? {
    guard offset < end else { return nil }
    guard end - offset >= SealedFile.lengthSize else { throw .malformed(path: path) }
    let start = offset + SealedFile.lengthSize
    let length = try Self.read(file.raw, offset..<start, path).reduce(0) { $0 << 8 | Int($1) }
    guard length <= end - start else { throw .malformed(path: path) }
    guard let record = sealer.open(try Self.read(file.raw, start..<start + length, path), number: number) else {
      throw .sealBroken(path: path, record: number)
    }
    offset = start + length
    number += 1
    return record
  }

  /// A range of the file, which has that many bytes.
  private static func read(_ raw: CInt, _ range: Range<Int>, _ path: String) throws(SnapshotError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: range.count)
    var done = 0
    while done < range.count {
      let count: Int
      do throws(SystemError) {
        count = try system("pread", path) {
          bytes.withUnsafeMutableBytes {
            pread(raw, $0.baseAddress.map { $0 + done }, range.count - done, range.lowerBound + done)
          }
        }
      } catch { throw .unreadable(path: path, reason: error.reason) }
      // Somebody has shortened it meanwhile.
      guard count > 0 else { throw .malformed(path: path) }
      done += count
    }
    return bytes
  }
}
