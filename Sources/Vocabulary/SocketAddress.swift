/// An IP address and a port.
public struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
  public var ip: IPAddress
  public var port: UInt16

  public init(_ ip: IPAddress, _ port: UInt16) {
    self.ip = ip
    self.port = port
  }

  /// Parses `1.2.3.4:80` and `[2001:db8::1]:80`; nil for anything else.
  public init?(_ text: some StringProtocol) {
    guard let colon = text.lastIndex(of: ":") else { return nil }
    let digits = text[text.index(after: colon)...]
    var host = text[..<colon]
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }), let port = UInt16(digits) else {
      return nil
    }
    if host.first == "[" {
      guard host.last == "]" else { return nil }
      host = host.dropFirst().dropLast()
      guard let ip = IPAddress(host), ip.family == .v6 else { return nil }
      self.init(ip, port)
    } else {
      guard let ip = IPAddress(host), ip.family == .v4 else { return nil }
      self.init(ip, port)
    }
  }

  /// The same with IPv4-mapped IPv6 unwrapped.
  public var canonical: SocketAddress { SocketAddress(ip.canonical, port) }

  /// IPv6 in brackets, as in an HTTP authority.
  public var description: String {
    switch ip {
    case .v4(let value):
      String(unsafeUninitializedCapacity: 21) { text in
        let colon = IPAddress.write(dottedQuad: value, into: text)
        text[colon] = UInt8(ascii: ":")
        return IPAddress.write(decimal: port, into: text, at: colon + 1)
      }
    case .v6: "[\(ip)]:\(port)"
    }
  }
}
