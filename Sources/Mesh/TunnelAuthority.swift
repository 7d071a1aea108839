import Vocabulary

/// The `:authority` of a CONNECT request, parsed from bytes a peer sent (hbone.md §7).
public enum TunnelAuthority: Hashable, Sendable, CustomStringConvertible {
  /// Not canonicalised: an IPv4-mapped IPv6 address stays what it is.
  case address(SocketAddress)
  /// The host name in lower case.
  case hostname(String, port: UInt16)

  /// Longest authority looked at, in bytes: a host name of 253, a port, and some userinfo.
  public static let maximumLength = 512

  /// Nil unless it is `IPv4:port`, `[IPv6]:port` or `hostname:port` with a port from 1 to 65535. Userinfo before an
  /// `@` is dropped. Host names hold letters, digits, `-`, `_`, `.` and `*` only.
  public init?(_ bytes: some Collection<UInt8>) {
    guard !bytes.isEmpty, bytes.count <= Self.maximumLength, bytes.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      return nil
    }
    var text = Substring(String(decoding: bytes, as: UTF8.self))
    if let at = text.lastIndex(of: "@") { text = text[text.index(after: at)...] }
    guard let colon = text.lastIndex(of: ":") else { return nil }
    let host = text[..<colon]
    let digits = text[text.index(after: colon)...].utf8
    guard (1...5).contains(digits.count), digits.allSatisfy({ (0x30...0x39).contains($0) }),
      let port = UInt16(Substring(digits)), port != 0
    else { return nil }
    if host.first == "[" {
      guard host.last == "]", let ip = IPAddress(host.dropFirst().dropLast()), ip.family == .v6 else { return nil }
      self = .address(SocketAddress(ip, port))
    } else if let ip = IPAddress(host), ip.family == .v4 {
      self = .address(SocketAddress(ip, port))
    } else {
      guard (1...253).contains(host.utf8.count), host.utf8.allSatisfy(Self.isAllowedInHostname) else { return nil }
      self = .hostname(host.lowercased(), port: port)
    }
  }

  private static func isAllowedInHostname(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."),
      UInt8(ascii: "*"):
      true
    default: false
    }
  }

  /// As it is written in a request.
  public var description: String {
    switch self {
    case .address(let address): address.description
    case .hostname(let host, let port): "\(host):\(port)"
    }
  }
}
