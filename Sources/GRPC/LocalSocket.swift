import CLinux
import Glibc
import Linux

/// A gRPC server on a Unix socket of this machine, spoken to without TLS: whoever may open the socket is trusted.
public struct LocalEndpoint: Hashable, Sendable {
  public let path: String
  /// Sent with every call.
  public let headers: [CallCredentials.Header]

  /// Bytes of a path without its final zero.
  public static let longestPath = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1

  /// Nil for a path that is empty, too long for a socket's address, or holds a zero byte.
  public init?(path: String, headers: [CallCredentials.Header] = []) {
    guard !path.isEmpty, path.utf8.count <= Self.longestPath, !path.utf8.contains(0) else { return nil }
    self.path = path
    self.headers = headers
  }

  /// Connects; a local connection is there at once or not at all. Throws ``SystemError``.
  func connect() throws(SystemError) -> SharedDescriptor {
    let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue)
    let socket = SharedDescriptor(Descriptor(owning: try system("socket") { Glibc.socket(AF_UNIX, kind, 0) }))
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    try system("connect", path) {
      withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          Glibc.connect(socket.raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
    }
    return socket
  }
}
