import Glibc

/// Files that are read at once and replaced at once.
public enum WholeFile {
  /// A regular file's bytes. Throws ``SystemError``, `EFBIG` for more than `limit` bytes.
  public static func read(_ path: String, limit: Int) throws(SystemError) -> [UInt8] {
    // Not blocking, so that a named pipe in the file's place cannot hold the caller.
    let file = try Descriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
    let raw = file.raw
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count <= limit {
      let count = try system("read", path) { Glibc.read(raw, &buffer, buffer.count) }
      if count == 0 { return bytes }
      bytes += buffer.prefix(count)
    }
    throw SystemError("read", EFBIG, subject: path)
  }

  /// Writes all bytes. Throws ``SystemError``.
  public static func write(_ bytes: [UInt8], to raw: CInt, _ path: String) throws(SystemError) {
    var written = 0
    while written < bytes.count {
      written += try system("write", path) {
        bytes.withUnsafeBytes { Glibc.write(raw, $0.baseAddress.map { $0 + written }, bytes.count - written) }
      }
    }
  }

  /// Puts a file with these bytes, for nobody's eyes but our own, in the place of what is at `path`: readers see the one
  /// or the other, also after a loss of power. Returns the new file, open for appending. Throws ``SystemError``.
  public static func replace(_ path: String, with bytes: [UInt8]) throws(SystemError) -> Descriptor {
    let file = try create(beside: path)
    let raw = file.raw
    do throws(SystemError) {
      try write(bytes, to: raw, path)
      try put(raw, inPlaceOf: path)
    } catch {
      unlink(scratch(of: path))
      throw error
    }
    return file
  }

  /// An empty file, for nobody's eyes but our own, that is to take the place of what is at `path` when it is complete; open for
  /// appending and reading. One is made at a time: the one before it loses its name. Throws ``SystemError``.
  public static func create(beside path: String) throws(SystemError) -> Descriptor {
    let scratch = scratch(of: path)
    unlink(scratch)
    return Descriptor(
      owning: try system("open", scratch) {
        Glibc.open(scratch, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
      })
  }

  /// Puts what ``create(beside:)`` made last, open as `raw`, in the place of what is at `path`: readers see the one or the
  /// other, also after a loss of power. Throws ``SystemError``.
  public static func put(_ raw: CInt, inPlaceOf path: String) throws(SystemError) {
    let scratch = scratch(of: path)
    try system("fsync", scratch) { fsync(raw) }
    // Another process may have begun a file of its own.
    guard Self.is(raw, at: scratch) else { throw SystemError("rename", ESTALE, subject: scratch) }
    try system("rename", path) { rename(scratch, path) }
    // The name is as durable as the bytes once the directory is; a directory that cannot be opened changes nothing else.
    let parents = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    if let directory = try? Descriptor.open(parents.isEmpty ? "." : parents, O_RDONLY | O_DIRECTORY) {
      fsync(directory.raw)
    }
  }

  /// Whether the file that is open as `raw` is the one at `path`.
  public static func `is`(_ raw: CInt, at path: String) -> Bool {
    var status = stat()
    return fstat(raw, &status) == 0 && FileSignature(status) == FileSignature(path: path)
  }

  /// Where ``create(beside:)`` makes a file.
  public static func scratch(of path: String) -> String { path + ".new" }
}
