import Vocabulary

/// What policies look at in a connection (policy.md §2).
public struct ConnectionAttributes: Hashable, Sendable {
  /// The TCP peer as the proxy sees it, IPv4-mapped IPv6 unwrapped.
  public var sourceIP: IPAddress
  /// The pod's address, and the port the bytes will go to.
  public var destination: SocketAddress
  /// Who the peer proved to be; nil for plaintext.
  public var identity: SPIFFEIdentity?

  public init(sourceIP: IPAddress, destination: SocketAddress, identity: SPIFFEIdentity? = nil) {
    self.sourceIP = sourceIP.canonical
    self.destination = destination.canonical
    self.identity = identity
  }
}
