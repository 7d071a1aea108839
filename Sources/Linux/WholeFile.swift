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
    let scratch = path + ".new"
    unlink(scratch)
    let file = Descriptor(
      owning: try system("open", scratch) {
        Glibc.open(scratch, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
      })
    let raw = file.raw
    do throws(SystemError) {
      try write(bytes, to: raw, scratch)
      try system("fsync", scratch) { fsync(raw) }
      try system("rename", path) { rename(scratch, path) }
    } catch {
      unlink(scratch)
      throw error
    }
    // The name is as durable as the bytes once the directory is; a directory that cannot be opened changes nothing else.
    let parents = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    if let directory = try? Descriptor.open(parents.isEmpty ? "." : parents, O_RDONLY | O_DIRECTORY) {
      fsync(directory.raw)
    }
    return file
  }
}
