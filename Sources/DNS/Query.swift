/// What is asked.
public struct Question: Equatable, Sendable {
  public let name: DomainName
  public let type: RecordType
  /// 1 is the Internet.
  public let recordClass: UInt16

  public init(_ name: DomainName, _ type: RecordType, recordClass: UInt16 = 1) {
    self.name = name
    self.type = type
    self.recordClass = recordClass
  }

  init(_ reader: inout MessageReader) throws(DecodingError) {
    name = try reader.name()
    type = RecordType(rawValue: try reader.number())
    recordClass = try reader.number()
  }

  /// The bytes of the question section. A question comes first in its message, so it can hold no pointer, and these
  /// are the bytes as asked.
  var wire: [UInt8] {
    name.wire + [type.rawValue, recordClass].flatMap { [UInt8($0 >> 8), UInt8(truncatingIfNeeded: $0)] }
  }
}

/// What a client says with its OPT record (RFC 6891 §6.1).
public struct ExtensionRecord: Equatable, Sendable {
  /// Largest UDP answer the client takes, in bytes; at least 512 whatever it says.
  public let payloadSize: UInt16
  public let version: UInt8
  /// DO: DNSSEC records are welcome.
  public let wantsSignatures: Bool

  public init(payloadSize: UInt16, version: UInt8 = 0, wantsSignatures: Bool = false) {
    self.payloadSize = max(512, payloadSize)
    self.version = version
    self.wantsSignatures = wantsSignatures
  }
}

/// A standard query with one question, understood.
public struct Query: Equatable, Sendable {
  /// As it came.
  public let message: [UInt8]
  public let header: MessageHeader
  public let question: Question
  /// Nil without EDNS.
  public let extensions: ExtensionRecord?

  /// Largest UDP answer the client takes, in bytes (RFC 1035 §4.2.1, RFC 6891 §6.2.3).
  public var datagramLimit: Int { Int(extensions?.payloadSize ?? 512) }
}

/// What is to be done with bytes from a client (dns.md §2).
public enum Intake: Equatable, Sendable {
  /// Not a query: dropped without an answer.
  case ignored
  /// Answered with these bytes at once.
  case rejected([UInt8])
  /// A standard query.
  case query(Query)
  /// A message of another kind (notify, update, …), which is none of the mesh's business: forwarded.
  case other([UInt8])

  /// Looks at the bytes of one message.
  public init(_ message: [UInt8]) {
    guard let header = MessageHeader(message), !header.isResponse else {
      self = .ignored
      return
    }
    guard header.opcode == 0 else {
      self = .other(message)
      return
    }
    guard header.questionCount == 1 else {
      self = .rejected(Response.failure(.serverFailure, to: header))
      return
    }
    do throws(DecodingError) { self = .query(try Query(message, header)) } catch {
      self = .rejected(Response.failure(.formatError, to: header))
    }
  }
}

extension Query {
  fileprivate init(_ message: [UInt8], _ header: MessageHeader) throws(DecodingError) {
    var reader = MessageReader(message, at: MessageHeader.size)
    question = try Question(&reader)
    for _ in 0..<(Int(header.answerCount) + Int(header.authorityCount)) {
      try reader.skipName()
      _ = try reader.take(8)
      _ = try reader.take(Int(try reader.number()))
    }
    var found: ExtensionRecord?
    for _ in 0..<Int(header.additionalCount) {
      let start = reader.index
      try reader.skipName()
      let isRoot = reader.index == start + 1
      let type = RecordType(rawValue: try reader.number())
      let size = try reader.number()
      let fields = try reader.longNumber()
      _ = try reader.take(Int(try reader.number()))
      guard type == .opt else { continue }
      guard isRoot, found == nil else { throw .badExtension }
      found = ExtensionRecord(
        payloadSize: size, version: UInt8(truncatingIfNeeded: fields >> 16), wantsSignatures: fields & 0x8000 != 0)
    }
    extensions = found
    self.message = message
    self.header = header
  }
}
