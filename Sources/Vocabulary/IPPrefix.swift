/// An address range in CIDR form. Host bits are cleared, so equal ranges are equal values.
public struct IPPrefix: Hashable, Sendable, CustomStringConvertible {
  /// First address of the range.
  public let address: IPAddress
  /// 0...32 for IPv4, 0...128 for IPv6.
  public let length: Int

  /// Nil when `length` is out of range for the family.
  public init?(_ address: IPAddress, length: Int) {
    guard (0...Self.width(of: address.family)).contains(length) else { return nil }
    self.address = Self.masked(address, length)
    self.length = length
  }

  /// The range that holds only `address`.
  public init(host address: IPAddress) {
    self.address = address
    self.length = Self.width(of: address.family)
  }

  /// Parses `address/length`; a bare address is nil, because a policy that forgot its mask must not be guessed at.
  public init?(_ text: some StringProtocol) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let address = IPAddress(parts[0]),
      let digits = parts.last, !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }),
      let length = Int(digits)
    else { return nil }
    self.init(address, length: length)
  }

  /// True when the range holds `candidate`; families never match each other.
  public func contains(_ candidate: IPAddress) -> Bool {
    candidate.family == address.family && Self.masked(candidate, length) == address
  }

  public var description: String { "\(address)/\(length)" }

  private static func width(of family: IPAddress.Family) -> Int { family == .v4 ? 32 : 128 }

  private static func masked(_ address: IPAddress, _ length: Int) -> IPAddress {
    switch address {
    // Swift's smart shifts give 0 once the distance reaches the width, which is what a /0 needs.
    case .v4(let value): .v4(value & (UInt32.max << UInt32(32 - length)))
    case .v6(let high, let low):
      .v6(high & (UInt64.max << max(0, 64 - length)), low & (UInt64.max << min(64, 128 - length)))
    }
  }
}
