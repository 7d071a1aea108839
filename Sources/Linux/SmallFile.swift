import Glibc

/// Files of a few kilobytes that are read whole: tokens and certificates.
public enum SmallFile {
  /// A file's bytes, at most `limit`. Throws ``SystemError``.
  public static func read(_ path: String, limit: Int = 1 << 20) throws(SystemError) -> [UInt8] {
    // Not blocking, so that a named pipe in the file's place cannot hold the caller.
    let file = try Descriptor.open(path, O_RDONLY | O_NONBLOCK)
    let raw = file.raw
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while bytes.count <= limit {
      let count = try system("read", path) { Glibc.read(raw, &buffer, buffer.count) }
      if count == 0 { return bytes }
      bytes += buffer.prefix(count)
    }
    throw SystemError("read", EFBIG, subject: path)
  }
}
