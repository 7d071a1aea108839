import Vocabulary

/// Addresses that the mesh knows for a name.
public struct Answer: Equatable, Sendable {
  /// The name they belong to when it is not the one asked for: the answer then starts with a CNAME (dns.md §3.4).
  public var alias: DomainName?
  /// All of the family asked for. Empty: the name is there, and has none.
  public var addresses: [IPAddress]

  public init(alias: DomainName? = nil, addresses: [IPAddress]) {
    self.alias = alias
    self.addresses = addresses
  }
}

/// Writes the messages that are made here and not upstream (dns.md §4).
public enum Response {
  /// Seconds that clients may keep an answer (dns.md §3).
  public static let timeToLive: UInt32 = 30
  /// Largest message over TCP, in bytes.
  public static let streamLimit = 65_535
  /// Largest answer made here for UDP, in bytes, whatever the client would take: what does not fit comes over TCP.
  public static let datagramLimit = 4096

  /// Addresses after which no answer of `limit` bytes has room for another.
  public static func addresses(in limit: Int) -> Int { limit / (recordHead + 4) + 1 }

  /// Seconds that clients may keep it that there is no address: a headless service may have its first endpoint soon.
  public static let negativeTimeToLive: UInt32 = 5

  /// An authoritative answer of at most `limit` bytes. Records that do not fit are left out, and the client is told
  /// so (TC). Without addresses it says for how long that holds (RFC 2308 §2.2).
  public static func answer(_ answer: Answer, to query: Query, limit: Int) -> [UInt8] {
    if let extensions = query.extensions, extensions.version > 0 { return failure(.badVersion, to: query) }
    var header = Self.header(of: query.header, .noError)
    header.flags |= MessageHeader.Flag.authoritative
    header.questionCount = 1
    let trailer = query.extensions.map { optionRecord($0, .noError) } ?? []
    let question = query.question.wire
    let room = limit - trailer.count - MessageHeader.size - question.count
    var records: [UInt8] = []
    // Where the name of the addresses is: the question's, or behind the CNAME's own fields.
    var owner = MessageHeader.size
    if let alias = answer.alias, !answer.addresses.isEmpty {
      owner = MessageHeader.size + question.count + recordHead
      records += record(owner: MessageHeader.size, .cname, alias.wire)
      header.answerCount = 1
    }
    if records.count > room {
      (records, header.answerCount) = ([], 0)
      header.flags |= MessageHeader.Flag.truncated
    } else {
      for address in answer.addresses {
        let next = record(owner: owner, address.family == .v4 ? .a : .aaaa, address.bytes)
        guard records.count + next.count <= room, header.answerCount < .max else {
          header.flags |= MessageHeader.Flag.truncated
          break
        }
        records += next
        header.answerCount += 1
      }
    }
    if answer.addresses.isEmpty {
      let authority = startOfAuthority()
      if authority.count <= room {
        records = authority
        header.authorityCount = 1
      }
    }
    header.additionalCount = trailer.isEmpty ? 0 : 1
    return header.wire + question + records + trailer
  }

  /// The SOA record of the name that was asked for, which is a zone of its own as far as anybody can tell.
  private static func startOfAuthority() -> [UInt8] {
    // Both names are the question's; serial, refresh, retry and expire are for zone transfers, which nobody is offered.
    let name: [UInt8] = [0xc0, UInt8(MessageHeader.size)]
    let times: [UInt32] = [1, 3600, 600, 86_400, negativeTimeToLive]
    return record(
      owner: MessageHeader.size, .soa, name + name + times.flatMap(bytes), timeToLive: negativeTimeToLive)
  }

  private static func bytes(_ number: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - 8 * UInt32($0))) }
  }

  /// An answer without records that says what went wrong, the question and EDNS echoed.
  public static func failure(_ code: ResponseCode, to query: Query) -> [UInt8] {
    var header = Self.header(of: query.header, code)
    header.questionCount = 1
    header.additionalCount = query.extensions == nil ? 0 : 1
    return header.wire + query.question.wire + (query.extensions.map { optionRecord($0, code) } ?? [])
  }

  /// The same to a message of which no more than the header is understood.
  public static func failure(_ code: ResponseCode, to header: MessageHeader) -> [UInt8] {
    Self.header(of: header, code).wire
  }

  /// Tells the client to ask again over TCP.
  public static func truncated(_ query: Query) -> [UInt8] {
    var header = Self.header(of: query.header, .noError)
    header.flags |= MessageHeader.Flag.truncated
    header.questionCount = 1
    header.additionalCount = query.extensions == nil ? 0 : 1
    return header.wire + query.question.wire + (query.extensions.map { optionRecord($0, .noError) } ?? [])
  }

  private static func header(of request: MessageHeader, _ code: ResponseCode) -> MessageHeader {
    let kept: UInt16 =
      MessageHeader.Flag.opcode | MessageHeader.Flag.recursionDesired | MessageHeader.Flag.checkingDisabled
    return MessageHeader(
      id: request.id,
      flags: request.flags & kept | MessageHeader.Flag.response | MessageHeader.Flag.recursionAvailable
        | code.rawValue & 15)
  }

  /// Bytes of a record before its data, with a compressed name.
  private static let recordHead = 12

  private static func record(
    owner: Int, _ type: RecordType, _ data: [UInt8], timeToLive: UInt32 = timeToLive
  ) -> [UInt8] {
    // Names end well below the 14 bits of a pointer: a header and two names come before any of them.
    [
      0xc0 | UInt8(truncatingIfNeeded: owner >> 8), UInt8(truncatingIfNeeded: owner), 0, UInt8(type.rawValue), 0, 1,
    ] + bytes(timeToLive)
      + [UInt8(truncatingIfNeeded: data.count >> 8), UInt8(truncatingIfNeeded: data.count)] + data
  }

  /// The client's payload size and DO again, the version spoken here, and the upper bits of the code.
  private static func optionRecord(_ request: ExtensionRecord, _ code: ResponseCode) -> [UInt8] {
    [
      0, 0, UInt8(RecordType.opt.rawValue), UInt8(request.payloadSize >> 8),
      UInt8(truncatingIfNeeded: request.payloadSize), UInt8(truncatingIfNeeded: code.rawValue >> 4), 0,
      request.wantsSignatures ? 0x80 : 0, 0, 0, 0,
    ]
  }
}
