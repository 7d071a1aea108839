import Glibc
import Linux

/// The file of a unix socket.
struct SocketFile: Sendable {
  private let path: String
  private var device: dev_t = 0
  private var inode: ino_t = 0

  /// Throws ``HTTPServerError``: the path is too long, or something else than a socket lies there.
  init(path: String) throws(HTTPServerError) {
    let longest = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1
    guard !path.isEmpty, path.utf8.count <= longest, !path.utf8.contains(0) else { throw .pathTooLong(path) }
    self.path = path
    if let status = status(), status.st_mode & S_IFMT != S_IFSOCK { throw .notASocket(path: path) }
  }

  /// Makes the file with `mode`, in the place of one that an earlier run left. Throws ``SystemError``.
  func bind(mode: mode_t, backlog: CInt) throws(SystemError) -> SharedDescriptor {
    let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    let socket = Descriptor(owning: try system("socket") { Glibc.socket(AF_UNIX, kind, 0) })
    let raw = socket.raw
    do throws(SystemError) { try system("unlink", path) { unlink(path) } } catch {
      if error.number != ENOENT { throw error }
    }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    // Before the bind: the file is then never there with a wider mode, whatever the umask.
    try system("fchmod", path) { fchmod(raw, 0o600) }
    try withUnsafePointer(to: &address) { pointer throws(SystemError) in
      try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer throws(SystemError) in
        _ = try system("bind", path) { Glibc.bind(raw, pointer, socklen_t(MemoryLayout<sockaddr_un>.size)) }
      }
    }
    try system("listen", path) { listen(raw, backlog) }
    try system("chmod", path) { chmod(path, mode) }
    return SharedDescriptor(socket)
  }

  /// With what tells this file from one that comes after it.
  func remembered() -> SocketFile {
    var file = self
    if let status = status() { (file.device, file.inode) = (status.st_dev, status.st_ino) }
    return file
  }

  /// Removes the file if it is still the one that was remembered.
  func remove() {
    guard let status = status(), status.st_dev == device, status.st_ino == inode else { return }
    unlink(path)
  }

  private func status() -> stat? {
    var status = stat()
    return lstat(path, &status) == 0 ? status : nil
  }
}
