import CLinux
import Glibc
import Vocabulary

/// What the kernel says of a bound socket that waits for traffic: a TCP listener, or a UDP socket.
///
/// A socket that was kept by somebody else is believed for what it is, not for what came with it.
public struct WaitingSocket: Equatable, Sendable {
  public enum Kind: Sendable {
    case listener
    case datagrams
  }

  public let kind: Kind
  public let family: IPAddress.Family
  /// The address it is bound to.
  public let address: SocketAddress
  /// The network namespace it belongs to, wherever its owner is.
  public let namespace: NamespaceIdentity
  /// Tells sockets apart; copies of one descriptor have the same.
  public let inode: UInt64

  /// Asks the kernel. Nil when it is another kind of descriptor, or a TCP socket that does not listen. Throws
  /// ``SystemError``, among others for want of CAP_NET_ADMIN in the socket's namespace.
  public init?(_ raw: CInt) throws(SystemError) {
    var status = stat()
    try system("fstat") { fstat(raw, &status) }
    guard status.st_mode & S_IFMT == S_IFSOCK else { return nil }
    switch try Self.option(raw, SO_DOMAIN) {
    case AF_INET: family = .v4
    case AF_INET6: family = .v6
    default: return nil
    }
    switch (try Self.option(raw, SO_PROTOCOL), try Self.option(raw, SO_ACCEPTCONN)) {
    case (CInt(IPPROTO_TCP), 1): kind = .listener
    case (CInt(IPPROTO_UDP), _): kind = .datagrams
    default: return nil
    }
    address = try TCPSocket.localAddress(raw)
    inode = UInt64(status.st_ino)
    let place = Descriptor(owning: try system("ioctl", "SIOCGSKNS") { ambient_namespace_of_socket(raw) })
    let number = place.raw
    try system("fstat", "network namespace of a socket") { fstat(number, &status) }
    namespace = NamespaceIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
  }

  private static func option(_ raw: CInt, _ name: CInt) throws(SystemError) -> CInt {
    var value: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    try system("getsockopt") { getsockopt(raw, SOL_SOCKET, name, &value, &length) }
    return value
  }
}
