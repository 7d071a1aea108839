import Vocabulary

/// An IP address inside a named network. Addresses only mean something inside a network, and the empty name is a
/// network like any other, not a wildcard (services.md §1).
public struct NetworkAddress: Hashable, Sendable, CustomStringConvertible {
  public var network: String
  public var ip: IPAddress

  public init(network: String, ip: IPAddress) {
    self.network = network
    self.ip = ip
  }

  /// Parses `network/ip`, with an empty network in `/10.0.0.1`; nil for anything else.
  public init?(_ text: some StringProtocol) {
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, let ip = IPAddress(parts[1]) else { return nil }
    self.init(network: String(parts[0]), ip: ip)
  }

  /// `network/ip`.
  public var description: String { "\(network)/\(ip)" }
}

/// An address range inside a named network: the virtual addresses of a service that answers for a whole CIDR.
public struct NetworkPrefix: Hashable, Sendable, CustomStringConvertible {
  public var network: String
  public var prefix: IPPrefix

  public init(network: String, prefix: IPPrefix) {
    self.network = network
    self.prefix = prefix
  }

  /// `network/address/length`.
  public var description: String { "\(network)/\(prefix)" }
}
