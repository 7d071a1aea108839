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
