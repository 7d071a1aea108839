import CLinux
import Glibc
import Vocabulary

/// What the kernel says of a socket in which something waits: a TCP listener, a bound UDP socket, or a ``Mailbox``.
///
/// A socket that was kept by somebody else is believed for what it is, not for what came with it.
public struct WaitingSocket: Equatable, Sendable {
  public enum Kind: Equatable, Sendable {
    /// Bound to this address.
    case listener(IPAddress.Family, SocketAddress)
    /// Bound to this address.
    case datagrams(IPAddress.Family, SocketAddress)
    case mailbox
  }

  public let kind: Kind
  /// The network namespace it belongs to, wherever its owner is.
  public let namespace: NamespaceIdentity
  /// Tells sockets apart; copies of one descriptor have the same.
  public let inode: UInt64

  /// The address it is bound to; nil for a mailbox.
  public var address: SocketAddress? {
    switch kind {
    case .listener(_, let address), .datagrams(_, let address): address
    case .mailbox: nil
    }
  }

  /// Asks the kernel. Nil when it is another kind of descriptor, such as a TCP socket that does not listen. Throws
  /// ``SystemError``, among others for want of CAP_NET_ADMIN in the socket's namespace.
  public init?(_ raw: CInt) throws(SystemError) {
    var status = stat()
    try system("fstat") { fstat(raw, &status) }
    guard status.st_mode & S_IFMT == S_IFSOCK, let kind = try Self.kind(raw) else { return nil }
    self.kind = kind
    inode = UInt64(status.st_ino)
    namespace = try NamespaceIdentity(ofSocket: raw)
  }

  private static func kind(_ raw: CInt) throws(SystemError) -> Kind? {
    let family: IPAddress.Family
    switch try TCPSocket.option(raw, SO_DOMAIN) {
    case AF_INET: family = .v4
    case AF_INET6: family = .v6
    case AF_UNIX:
      return try TCPSocket.option(raw, SO_TYPE) == CInt(SOCK_DGRAM.rawValue) && Mailbox.isMailbox(raw) ? .mailbox : nil
    default: return nil
    }
    switch (try TCPSocket.option(raw, SO_PROTOCOL), try TCPSocket.option(raw, SO_ACCEPTCONN)) {
    case (CInt(IPPROTO_TCP), 1): return .listener(family, try TCPSocket.localAddress(raw))
    case (CInt(IPPROTO_UDP), _): return .datagrams(family, try TCPSocket.localAddress(raw))
    default: return nil
    }
  }
}
