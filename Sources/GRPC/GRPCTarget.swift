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
    var port: Substring?
    if rest.first == "[" {
      guard let end = rest.firstIndex(of: "]") else { return nil }
      let after = rest[rest.index(after: end)...]
      guard after.isEmpty || after.first == ":" else { return nil }
      if !after.isEmpty { port = after.dropFirst() }
      rest = rest[..<end].dropFirst()
      guard IPAddress(rest)?.family == .v6 else { return nil }
    } else if let colon = rest.firstIndex(of: ":") {
      port = rest[rest.index(after: colon)...]
      rest = rest[..<colon]
    }
    guard let host = ServerName(String(rest)) else { return nil }
    guard let port else {
      self.init(host: host, port: 443)
      return
    }
    guard !port.isEmpty, port.utf8.allSatisfy({ (48...57).contains($0) }), let number = UInt16(port), number > 0
    else { return nil }
    self.init(host: host, port: number)
  }

  /// `host:port`, as in `:authority`.
  public var authority: String {
    switch host {
    case .dns(let name): "\(name):\(port)"
    case .ip(let address): "\(SocketAddress(address, port))"
    }
  }

  public var description: String { "https://\(authority)" }
}
