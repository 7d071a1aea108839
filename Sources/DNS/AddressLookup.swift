import Vocabulary

/// A question about a host's addresses, asked by this process itself, and what there is to read in its answer. Pure.
public struct AddressLookup: Sendable {
  /// What an answer amounts to.
  public enum Outcome: Equatable, Sendable {
    /// Empty where there are none, for whatever reason.
    case addresses([IPAddress])
    /// It has to be asked over TCP.
    case truncated
  }

  /// The query's bytes.
  public let message: [UInt8]
  private let question: Question

  /// Longest chain of aliases that is followed.
  private static let mostAliases = 8

  /// Nil where the name is no host name. `id` comes back with the answer.
  public init?(hostname: String, _ family: IPAddress.Family, id: UInt16) {
    guard let name = DomainName(hostname), name.hostname != nil else { return nil }
    question = Question(name, family == .v4 ? .a : .aaaa)
    var header = MessageHeader(id: id, flags: MessageHeader.Flag.recursionDesired)
    header.questionCount = 1
    message = header.wire + question.wire
  }

  /// Reads an answer to ``message``. What is malformed has no addresses.
  public func read(_ answer: [UInt8]) -> Outcome {
    guard let header = MessageHeader(answer), header.isResponse, header.responseCode == .noError else {
      return .addresses([])
    }
    if header.isTruncated { return .truncated }
    return .addresses((try? addresses(in: answer, header)) ?? [])
  }

  private func addresses(in answer: [UInt8], _ header: MessageHeader) throws(DecodingError) -> [IPAddress] {
    var reader = MessageReader(answer, at: MessageHeader.size)
    for _ in 0..<header.questionCount { _ = try Question(&reader) }
    var found: [(owner: DomainName, ip: IPAddress)] = []
    var aliases: [(owner: DomainName, target: DomainName)] = []
    for _ in 0..<header.answerCount {
      let owner = try reader.name()
      let type = RecordType(rawValue: try reader.number())
      let recordClass = try reader.number()
      _ = try reader.longNumber()
      let length = Int(try reader.number())
      var content = reader
      let data = try reader.take(length)
      guard recordClass == question.recordClass else { continue }
      if type == question.type, let ip = IPAddress(bytes: data) {
        found.append((owner, ip))
      } else if type == .cname {
        aliases.append((owner, try content.name()))
      }
    }
    var name = question.name
    for _ in 0...Self.mostAliases {
      let here = found.filter { $0.owner == name }.map(\.ip)
      guard here.isEmpty, let alias = aliases.first(where: { $0.owner == name }) else { return here }
      name = alias.target
    }
    return []
  }
}
