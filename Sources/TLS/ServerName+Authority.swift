import Vocabulary

/// A server's name with a port (RFC 3986 §3.2).
extension ServerName {
  /// Reads `host`, `host:port` or `[IPv6]:port`; the port is nil where there is none. Nil for all else, port 0 included.
  public static func read(authority text: Substring) -> (host: ServerName, port: UInt16?)? {
    var rest = text
    var digits: Substring?
    if rest.first == "[" {
      guard let end = rest.firstIndex(of: "]") else { return nil }
      let after = rest[rest.index(after: end)...]
      guard after.isEmpty || after.first == ":" else { return nil }
      if !after.isEmpty { digits = after.dropFirst() }
      rest = rest[..<end].dropFirst()
      guard IPAddress(rest)?.family == .v6 else { return nil }
    } else if let colon = rest.firstIndex(of: ":") {
      digits = rest[rest.index(after: colon)...]
      rest = rest[..<colon]
    }
    guard let host = ServerName(String(rest)) else { return nil }
    guard let digits else { return (host, nil) }
    guard digits.utf8.allSatisfy({ (48...57).contains($0) }), let port = UInt16(digits), port > 0 else { return nil }
    return (host, port)
  }

  /// `host:port`, as in `:authority`.
  public func authority(port: UInt16) -> String {
    switch self {
    case .dns(let name): "\(name):\(port)"
    case .ip(let address): "\(SocketAddress(address, port))"
    }
  }
}
