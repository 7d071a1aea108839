import Glibc
import Linux

/// Small files of /proc.
enum KernelFile {
  /// The content of a file, at most 64 KiB of it; nil when there is no such file. Throws ``RedirectionError``.
  static func read(_ path: String) throws(RedirectionError) -> String? {
    do {
      let descriptor = try Descriptor.open(path, O_RDONLY)
      let raw = descriptor.raw
      var content: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 4096)
      while content.count < 65536 {
        let count = try system("read", path) { Glibc.read(raw, &buffer, buffer.count) }
        if count == 0 { break }
        content += buffer.prefix(count)
      }
      return String(decoding: content, as: UTF8.self)
    } catch  where error.number == ENOENT {
      return nil
    } catch {
      throw .unreadable(path: path, error)
    }
  }
}
