import CLinux
import Glibc
import Linux
import Vocabulary

/// A bound and listening socket of a server.
struct Listener: Sendable {
  let socket: SharedDescriptor
  let address: SocketAddress?
  /// Nil for sockets whose peers have addresses.
  private let users: Set<UInt32>?
  private let isUnix: Bool
  private let file: SocketFile?

  private static let backlog: CInt = 512

  /// Binds and listens. Throws ``HTTPServerError``.
  init(_ endpoint: HTTPEndpoint) throws(HTTPServerError) {
    switch endpoint {
    case .address(let address, let sharesPort):
      do throws(SystemError) { socket = try Self.bind(address, address.ip.family, sharesPort) } catch {
        throw .cannotListen(endpoint: "\(address)", error)
      }
      (users, isUnix, file) = (nil, false, nil)
    case .everyAddress(let port, let sharesPort):
      do throws(SystemError) {
        do throws(SystemError) { socket = try Self.bind(SocketAddress(.any(.v6), port), .v6, sharesPort) } catch {
          // The kernel has no IPv6, or it is switched off.
          guard error.number == EAFNOSUPPORT || error.number == EADDRNOTAVAIL else { throw error }
          socket = try Self.bind(SocketAddress(.any(.v4), port), .v4, sharesPort)
        }
      } catch { throw .cannotListen(endpoint: "port \(port)", error) }
      (users, isUnix, file) = (nil, false, nil)
    case .unix(let path, let mode, let users):
      let file = try SocketFile(path: path)
      do throws(SystemError) { socket = try file.bind(mode: mode, backlog: Self.backlog) } catch {
        throw .cannotListen(endpoint: path, error)
      }
      (self.users, isUnix, self.file) = (users, true, file.remembered())
    case .inherited(let descriptor):
      socket = descriptor
      do throws(SystemError) {
        let flags = try system("fcntl") { ambient_fcntl_int(descriptor.raw, F_GETFL, 0) }
        try system("fcntl") { ambient_fcntl_int(descriptor.raw, F_SETFL, flags | O_NONBLOCK) }
      } catch { throw .cannotListen(endpoint: "an inherited socket", error) }
      (users, isUnix, file) = (nil, (try? TCPSocket.localAddress(descriptor.raw)) == nil, nil)
    }
    address = try? TCPSocket.localAddress(socket.raw)
  }

  /// A waiting connection and who made it; nil when there is none. One whose peer may not be served is closed, and the
  /// next one taken. Throws ``SystemError``.
  func accept() throws(SystemError) -> (SharedDescriptor, HTTPPeer)? {
    while true {
      let connection: AcceptedConnection?
      do throws(SystemError) { connection = try TCPSocket.accept(socket.raw) } catch {
        // That client has gone while it waited.
        if error.number == ECONNABORTED { continue }
        throw error
      }
      guard let connection else { return nil }
      let address = connection.peer
      let accepted = SharedDescriptor(connection.take())
      if isUnix {
        guard let peer = Self.process(accepted.raw), isAllowed(peer) else { continue }
        return (accepted, peer)
      }
      guard let address else { continue }
      TCPSocket.setNoDelay(accepted.raw)
      return (accepted, .address(address))
    }
  }

  /// Removes the socket's file, unless another has taken its place.
  func removeFile() { file?.remove() }

  private func isAllowed(_ peer: HTTPPeer) -> Bool {
    guard let users, case .process(_, let user, _) = peer else { return true }
    return users.contains(user)
  }

  private static func process(_ raw: CInt) -> HTTPPeer? {
    // The kernel's struct ucred.
    var credentials: (process: Int32, user: UInt32, group: UInt32) = (0, 0, 0)
    var length = socklen_t(MemoryLayout.size(ofValue: credentials))
    guard getsockopt(raw, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 else { return nil }
    return .process(id: credentials.process, user: credentials.user, group: credentials.group)
  }

  private static func bind(_ address: SocketAddress, _ family: IPAddress.Family, _ sharesPort: Bool)
    throws(SystemError) -> SharedDescriptor
  {
    let socket = try TCPSocket.make(family)
    try TCPSocket.setReuseAddress(socket.raw)
    if sharesPort { try TCPSocket.setReusePort(socket.raw) }
    try TCPSocket.bind(socket.raw, family, to: address)
    try TCPSocket.listen(socket.raw, backlog: backlog)
    return SharedDescriptor(socket)
  }
}
