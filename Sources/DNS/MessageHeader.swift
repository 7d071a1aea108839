/// The fixed beginning of every message (RFC 1035 §4.1.1).
public struct MessageHeader: Equatable, Sendable {
  public static let size = 12

  public var id: UInt16
  /// QR, opcode, AA, TC, RD, RA, Z, AD, CD and the response code.
  public var flags: UInt16
  public var questionCount: UInt16
  public var answerCount: UInt16
  public var authorityCount: UInt16
  public var additionalCount: UInt16

  /// Nil when there are fewer than twelve bytes.
  public init?(_ message: [UInt8]) {
    guard message.count >= Self.size else { return nil }
    func field(_ index: Int) -> UInt16 { UInt16(message[2 * index]) << 8 | UInt16(message[2 * index + 1]) }
    (id, flags, questionCount) = (field(0), field(1), field(2))
    (answerCount, authorityCount, additionalCount) = (field(3), field(4), field(5))
  }

  init(id: UInt16, flags: UInt16) {
    (self.id, self.flags) = (id, flags)
    (questionCount, answerCount, authorityCount, additionalCount) = (0, 0, 0, 0)
  }

  public var isResponse: Bool { flags & Flag.response != 0 }
  public var opcode: UInt8 { UInt8(flags >> 11 & 15) }
  public var isTruncated: Bool { flags & Flag.truncated != 0 }
  public var responseCode: ResponseCode { ResponseCode(rawValue: flags & 15) }

  enum Flag {
    static let response: UInt16 = 0x8000
    static let opcode: UInt16 = 0x7800
    static let authoritative: UInt16 = 0x0400
    static let truncated: UInt16 = 0x0200
    static let recursionDesired: UInt16 = 0x0100
    static let recursionAvailable: UInt16 = 0x0080
    static let checkingDisabled: UInt16 = 0x0010
  }

  var wire: [UInt8] {
    [id, flags, questionCount, answerCount, authorityCount, additionalCount]
      .flatMap { [UInt8($0 >> 8), UInt8(truncatingIfNeeded: $0)] }
  }
}

/// The outcome of a query (RFC 1035 §4.1.1, RFC 6891 §6.1.3).
public struct ResponseCode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  public static let noError = ResponseCode(rawValue: 0)
  public static let formatError = ResponseCode(rawValue: 1)
  public static let serverFailure = ResponseCode(rawValue: 2)
  public static let noSuchName = ResponseCode(rawValue: 3)
  public static let notImplemented = ResponseCode(rawValue: 4)
  public static let refused = ResponseCode(rawValue: 5)
  /// Needs an OPT record, which carries its upper bits.
  public static let badVersion = ResponseCode(rawValue: 16)

  public var description: String {
    switch self {
    case .noError: "NOERROR"
    case .formatError: "FORMERR"
    case .serverFailure: "SERVFAIL"
    case .noSuchName: "NXDOMAIN"
    case .notImplemented: "NOTIMP"
    case .refused: "REFUSED"
    case .badVersion: "BADVERS"
    default: "RCODE\(rawValue)"
    }
  }
}

/// The type of a record or a question.
public struct RecordType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  public static let a = RecordType(rawValue: 1)
  public static let cname = RecordType(rawValue: 5)
  public static let soa = RecordType(rawValue: 6)
  public static let aaaa = RecordType(rawValue: 28)
  public static let opt = RecordType(rawValue: 41)

  private static let names: [UInt16: String] = [
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR",
    41: "OPT", 43: "DS", 46: "RRSIG", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 251: "IXFR", 252: "AXFR", 255: "ANY",
    257: "CAA",
  ]

  /// Whether the type is one that people know by a name.
  public var isNamed: Bool { Self.names[rawValue] != nil }

  /// The name, or `TYPE<n>` (RFC 3597 §5).
  public var description: String { Self.names[rawValue] ?? "TYPE\(rawValue)" }
}
