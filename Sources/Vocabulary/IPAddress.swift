#if canImport(Glibc)
  import Glibc
#endif

/// An IPv4 or IPv6 address. IPv4-mapped IPv6 stays IPv6 until ``canonical`` is asked for.
public enum IPAddress: Hashable, Sendable {
  /// Host byte order.
  case v4(UInt32)
  /// High and low halves in host byte order.
  case v6(UInt64, UInt64)

  /// The address family of an address.
  public enum Family: String, Hashable, Sendable, CaseIterable {
    case v4, v6
  }

  /// Parses the textual forms `inet_pton` accepts; nil for anything else (zones such as `%eth0` included).
  public init?(_ text: some StringProtocol) {
    var four = in_addr()
    var six = in6_addr()
    let string = String(text)
    // inet_pton stops at a zero byte, so what follows one would pass unseen.
    guard string.utf8.count < INET6_ADDRSTRLEN, !string.utf8.contains(0) else { return nil }
    if inet_pton(AF_INET, string, &four) == 1 {
      self = .v4(UInt32(bigEndian: four.s_addr))
    } else if inet_pton(AF_INET6, string, &six) == 1 {
      self = withUnsafeBytes(of: &six) { Self.v6(bytes: $0) }
    } else {
      return nil
    }
  }

  /// Network-order bytes: 4 or 16 of them, nil for any other count.
  public init?(bytes: some Collection<UInt8>) {
    switch bytes.count {
    case 4: self = .v4(bytes.reduce(0) { $0 << 8 | UInt32($1) })
    case 16:
      let high = bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
      let low = bytes.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) }
      self = .v6(high, low)
    default: return nil
    }
  }

  private static func v6(bytes: UnsafeRawBufferPointer) -> IPAddress {
    .v6(
      UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
      UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
  }

  /// 127.0.0.1 or ::1.
  public static func loopback(_ family: Family) -> IPAddress {
    switch family {
    case .v4: .v4(0x7f00_0001)
    case .v6: .v6(0, 1)
    }
  }

  /// 0.0.0.0 or ::.
  public static func any(_ family: Family) -> IPAddress {
    switch family {
    case .v4: .v4(0)
    case .v6: .v6(0, 0)
    }
  }

  public var family: Family {
    switch self {
    case .v4: .v4
    case .v6: .v6
    }
  }

  /// 127.0.0.0/8, ::1, and the former mapped into IPv6.
  public var isLoopback: Bool {
    switch canonical {
    case .v4(let value): value >> 24 == 127
    case .v6(let high, let low): high == 0 && low == 1
    }
  }

  /// IPv4-mapped IPv6 (`::ffff:a.b.c.d`) as IPv4; everything else unchanged (datapath.md §2).
  public var canonical: IPAddress {
    if case .v6(0, let low) = self, low >> 32 == 0xffff { return .v4(UInt32(truncatingIfNeeded: low)) }
    return self
  }

  /// Network-order bytes, 4 or 16.
  public var bytes: [UInt8] {
    switch self {
    case .v4(let value): (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
    case .v6(let high, let low):
      (0..<8).map { UInt8(truncatingIfNeeded: high >> (56 - 8 * $0)) }
        + (0..<8).map { UInt8(truncatingIfNeeded: low >> (56 - 8 * $0)) }
    }
  }
}

extension IPAddress: CustomStringConvertible {
  /// Most bytes of an IPv4 address's text.
  public static let longestDottedQuad = 15

  /// Writes an IPv4 address's text; `text` has room for ``longestDottedQuad`` bytes. Without interpolation, which takes many
  /// times as long: every connection names a few addresses. Returns the length.
  public static func write(dottedQuad value: UInt32, into text: UnsafeMutableBufferPointer<UInt8>) -> Int {
    var end = 0
    for shift in stride(from: UInt32(24), through: 0, by: -8) {
      let octet = UInt8(truncatingIfNeeded: value >> shift)
      end = write(decimal: UInt16(octet), into: text, at: end)
      guard shift > 0 else { break }
      text[end] = UInt8(ascii: ".")
      end += 1
    }
    return end
  }

  /// Returns the index after the last digit.
  static func write(decimal value: UInt16, into text: UnsafeMutableBufferPointer<UInt8>, at start: Int) -> Int {
    var end = start
    var power: UInt16 = 10_000
    while power > 1, value < power { power /= 10 }
    while power > 0 {
      text[end] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value / power % 10)
      end += 1
      power /= 10
    }
    return end
  }

  /// RFC 5952 text for IPv6, dotted quad for IPv4.
  public var description: String {
    switch self {
    case .v4(let value):
      return String(unsafeUninitializedCapacity: Self.longestDottedQuad) { Self.write(dottedQuad: value, into: $0) }
    case .v6(let high, let low):
      var address = in6_addr()
      withUnsafeMutableBytes(of: &address) {
        $0.storeBytes(of: high.bigEndian, as: UInt64.self)
        $0.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
      }
      return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { buffer in
        guard let base = buffer.baseAddress,
          let text = inet_ntop(AF_INET6, &address, base, socklen_t(INET6_ADDRSTRLEN))
        else { return "::" }
        return String(cString: text)
      }
    }
  }
}
