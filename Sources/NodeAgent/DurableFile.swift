import Glibc
import Linux

/// Files of the node that are read and written whole: another process, and a crash at any moment, sees the old content or the
/// new (enrollment.md limit 15).
enum DurableFile {
  /// Marks files that are being written; no container runtime reads a name that ends so.
  static let temporaryMark = ".ambient-tmp-"

  /// Reads a regular file of at most `limit` bytes; nil when there is none. Throws ``SystemError``: `EFBIG` for a longer
  /// one, `EINVAL` for what is no regular file.
  static func read(_ path: String, limit: Int = 1 << 20) throws(SystemError) -> [UInt8]? {
    let file: Descriptor
    // Without waiting, should it be a pipe.
    do throws(SystemError) { file = try Descriptor.open(path, O_RDONLY | O_NONBLOCK) } catch {
      if error.number == ENOENT { return nil }
      throw error
    }
    let raw = file.raw
    var status = stat()
    try system("fstat", path) { fstat(raw, &status) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw SystemError("read", EINVAL, subject: path) }
    var bytes: [UInt8] = []
    while true {
      var count = 0
      var failure: SystemError?
      let chunk = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, filled in
        do throws(SystemError) {
          count = try system("read", path) { Glibc.read(raw, buffer.baseAddress, buffer.count) }
          filled = count
        } catch { failure = error }
      }
      if let failure { throw failure }
      if count == 0 { return bytes }
      bytes += chunk
      guard bytes.count <= limit else { throw SystemError("read", EFBIG, subject: path) }
    }
  }

  /// Writes a file beside its place, makes sure that it is on the disk, and puts it in its place. Throws ``SystemError``;
  /// what was there is still there then.
  static func write(_ path: String, _ bytes: [UInt8], mode: mode_t) throws(SystemError) {
    let temporary = "\(path)\(temporaryMark)\(UInt32.random(in: 0 ... .max))"
    do throws(SystemError) {
      let file = try Descriptor.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
      let raw = file.raw
      try WholeFile.write(bytes, to: raw, temporary)
      // Whatever the umask.
      try system("fchmod", temporary) { fchmod(raw, mode) }
      try system("fsync", temporary) { fsync(raw) }
      try system("rename", path) { rename(temporary, path) }
    } catch {
      unlink(temporary)
      throw error
    }
    try settle(directoryOf: path)
  }

  /// Makes sure that the names of a directory are on the disk.
  static func settle(directoryOf path: String) throws(SystemError) {
    let directory = parent(of: path)
    let raw = try Descriptor.open(directory, O_RDONLY | O_DIRECTORY)
    let number = raw.raw
    try system("fsync", directory) { fsync(number) }
  }

  static func move(_ from: String, to path: String) throws(SystemError) {
    try system("rename", path) { rename(from, path) }
    try settle(directoryOf: path)
  }

  /// No error when there is none.
  static func remove(_ path: String) throws(SystemError) {
    do throws(SystemError) { try system("unlink", path) { unlink(path) } } catch {
      if error.number == ENOENT { return }
      throw error
    }
    try settle(directoryOf: path)
  }

  /// The permissions of a file; nil when there is none.
  static func mode(of path: String) -> mode_t? {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_mode & 0o7777 : nil
  }

  /// The entries of a directory but those whose names begin with a dot. Throws ``SystemError``.
  static func names(in directory: String) throws(SystemError) -> [String] {
    guard let listing = opendir(directory) else { throw SystemError("opendir", errno, subject: directory) }
    defer { closedir(listing) }
    var names: [String] = []
    while let entry = readdir(listing) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if !name.hasPrefix(".") { names.append(name) }
    }
    return names
  }

  /// Makes a directory and those it lies in. Throws ``SystemError``.
  static func makeDirectory(_ path: String, mode: mode_t = 0o755) throws(SystemError) {
    var made = path.hasPrefix("/") ? "/" : ""
    for component in path.split(separator: "/") {
      made += made.isEmpty || made.hasSuffix("/") ? component : "/\(component)"
      do throws(SystemError) { try system("mkdir", made) { mkdir(made, mode) } } catch {
        if error.number != EEXIST { throw error }
      }
    }
  }

  private static func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
