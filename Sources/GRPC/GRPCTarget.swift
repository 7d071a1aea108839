import TLS
import Vocabulary

/// Where a gRPC server is: `https://host:port`.
public struct GRPCTarget: Hashable, Sendable, CustomStringConvertible {
  public let host: ServerName
  public let port: UInt16

  public init(host: ServerName, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// Parses an address as Istio writes it: the scheme `https://` may be left out and is the only one, the port is 443
  /// where it is left out, an IPv6 address stands in brackets, a lone `/` may follow (xds.md §1.1). Nil for all else.
  public init?(_ text: String) {
    var rest = text[...]
    if let scheme = rest.firstRange(of: "://") {
      guard rest[..<scheme.lowerBound].lowercased() == "https" else { return nil }
      rest = rest[scheme.upperBound...]
    }
    if rest.hasSuffix("/") { rest.removeLast() }
    guard let (host, port) = ServerName.read(authority: rest) else { return nil }
    self.init(host: host, port: port ?? 443)
  }

  /// `host:port`, as in `:authority`.
  public var authority: String { host.authority(port: port) }

  public var description: String { "https://\(authority)" }
}
