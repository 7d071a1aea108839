import Vocabulary

/// The `:authority` of a CONNECT request, parsed from bytes a peer sent (hbone.md §7).
public enum TunnelAuthority: Hashable, Sendable, CustomStringConvertible {
  /// Not canonicalised: an IPv4-mapped IPv6 address stays what it is.
  case address(SocketAddress)
  /// The host name; in lower case where a peer sent it.
  case hostname(String, port: UInt16)

  /// Longest authority looked at, in bytes: a host name of 253, a port, and some userinfo.
  public static let maximumLength = 512

  /// Nil unless it is `IPv4:port`, `[IPv6]:port` or `hostname:port` with a port from 1 to 65535. Userinfo before an
  /// `@` is dropped. Host names hold letters, digits, `-`, `_`, `.` and `*` only.
  public init?(_ bytes: some Collection<UInt8>) {
    guard !bytes.isEmpty, bytes.count <= Self.maximumLength, bytes.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      return nil
    }
    var text = Array(bytes)[...]
    if let at = text.lastIndex(of: UInt8(ascii: "@")) { text = text[(at + 1)...] }
    guard let colon = text.lastIndex(of: UInt8(ascii: ":")) else { return nil }
    let host = text[..<colon]
    guard let port = Self.port(text[(colon + 1)...]) else { return nil }
    if host.first == UInt8(ascii: "[") {
      guard host.last == UInt8(ascii: "]"),
        let ip = IPAddress(String(decoding: host.dropFirst().dropLast(), as: UTF8.self)), ip.family == .v6
      else { return nil }
      self = .address(SocketAddress(ip, port))
    } else {
      let name = String(decoding: host, as: UTF8.self)
      if let ip = IPAddress(name), ip.family == .v4 {
        self = .address(SocketAddress(ip, port))
      } else {
        guard (1...253).contains(host.count), host.allSatisfy(Self.isAllowedInHostname) else { return nil }
        self = .hostname(name.lowercased(), port: port)
      }
    }
  }

  private static func port(_ digits: ArraySlice<UInt8>) -> UInt16? {
    guard (1...5).contains(digits.count), digits.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    let value = digits.reduce(UInt32(0)) { $0 * 10 + UInt32($1 - 0x30) }
    return value == 0 ? nil : UInt16(exactly: value)
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
