import CLinux
import Glibc
import Linux

/// The bound socket file that ztunnels connect to (zds.md §1).
final class PacketListener {
  let descriptor: SharedDescriptor

  /// Binds and listens; connections wait in the backlog until they are accepted.
  ///
  /// Makes the directory, takes away the socket of an earlier run, and gives the file mode 0600. Throws ``ZDSError``.
  init(path: UnixSocketPath) throws(ZDSError) {
    do {
      try Self.makeDirectory(path.directory)
      try Self.removeStale(path)
      let socket = Descriptor(
        owning: try system("socket", path.text) {
          Glibc.socket(AF_UNIX, PacketSocket.kind, 0)
        })
      let raw = socket.raw
      // Before the bind: the file is then never there with a wider mode, whatever the umask.
      try system("fchmod", path.text) { fchmod(raw, 0o600) }
      try system("bind", path.text) { path.withAddress { Glibc.bind(raw, $0, $1) } }
      try system("listen", path.text) { Glibc.listen(raw, 16) }
      descriptor = SharedDescriptor(socket)
    } catch let error as SystemError { throw .system(error) } catch let error as ZDSError { throw error } catch {
      throw .stopped
    }
  }

  /// Goes on with a socket that a service manager has bound, and keeps bound while nobody listens.
  ///
  /// Throws ``ZDSError/notASocket(path:)`` for anything that is not a listening socket of packets, or
  /// ``ZDSError/system(_:)``.
  init(adopting inherited: SharedDescriptor) throws(ZDSError) {
    let raw = inherited.raw
    let subject = "the inherited descriptor \(raw)"
    guard Self.option(SO_ACCEPTCONN, raw) == 1, Self.option(SO_TYPE, raw) == CInt(SOCK_SEQPACKET.rawValue),
      Self.option(SO_DOMAIN, raw) == AF_UNIX
    else { throw .notASocket(path: subject) }
    do {
      let flags = try system("fcntl", subject) { ambient_fcntl_int(raw, F_GETFL, 0) }
      try system("fcntl", subject) { ambient_fcntl_int(raw, F_SETFL, flags | O_NONBLOCK) }
    } catch { throw .system(error) }
    descriptor = inherited
  }

  private static func option(_ name: CInt, _ raw: CInt) -> CInt? {
    var value: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    return getsockopt(raw, SOL_SOCKET, name, &value, &length) == 0 ? value : nil
  }

  /// Takes one waiting connection, or nil when none is there. Throws ``SystemError``.
  func accept() throws(SystemError) -> Descriptor? {
    let raw = descriptor.raw
    do {
      return Descriptor(
        owning: try system("accept4") { ambient_accept(raw, nil, nil) })
    } catch {
      // A connection that went away while it waited is no error of the listener.
      if error.number == EAGAIN || error.number == ECONNABORTED { return nil }
      throw error
    }
  }

  private static func makeDirectory(_ path: String) throws(SystemError) {
    var made = path.hasPrefix("/") ? "/" : ""
    for component in path.split(separator: "/") {
      made += made.isEmpty || made.hasSuffix("/") ? component : "/\(component)"
      do { try system("mkdir", made) { mkdir(made, 0o755) } } catch {
        if error.number != EEXIST { throw error }
      }
    }
  }

  private static func removeStale(_ path: UnixSocketPath) throws {
    var status = stat()
    do { try system("lstat", path.text) { lstat(path.text, &status) } } catch {
      if error.number == ENOENT { return }
      throw error
    }
    guard status.st_mode & S_IFMT == S_IFSOCK else { throw ZDSError.notASocket(path: path.text) }
    do { try system("unlink", path.text) { unlink(path.text) } } catch {
      if error.number != ENOENT { throw error }
    }
  }
}
