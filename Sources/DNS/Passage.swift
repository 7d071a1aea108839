/// One message on its way to a resolver and back, unchanged but for its id.
///
/// The id upstream is random, so that nobody who does not see the message can answer it (RFC 5452 §4.3).
public struct Passage: Equatable, Sendable {
  /// What to send upstream.
  public let outgoing: [UInt8]
  private let id: UInt16
  private let originalID: UInt16
  private let opcode: UInt8
  private let question: Question?

  /// Nil for bytes that are not even a header.
  public init?(_ message: [UInt8], question: Question?, id: UInt16) {
    guard let header = MessageHeader(message) else { return nil }
    self.id = id
    originalID = header.id
    opcode = header.opcode
    self.question = question
    outgoing = Self.message(message, with: id)
  }

  /// An answer for the client, or nil when these bytes do not answer what was sent.
  public func accept(_ answer: [UInt8]) -> [UInt8]? {
    guard let header = MessageHeader(answer), header.isResponse, header.id == id, header.opcode == opcode else {
      return nil
    }
    if let question {
      switch header.questionCount {
      case 1:
        var reader = MessageReader(answer, at: MessageHeader.size)
        guard let echoed = try? Question(&reader), echoed == question else { return nil }
      case 0:
        // Servers that did not understand a question do not repeat it.
        guard header.responseCode != .noError, header.responseCode != .noSuchName, header.answerCount == 0 else {
          return nil
        }
      default: return nil
      }
    }
    return Self.message(answer, with: originalID)
  }

  /// True when another resolver may do better than this answer.
  public static func isWorthAnotherServer(_ answer: [UInt8]) -> Bool {
    switch MessageHeader(answer)?.responseCode {
    case .serverFailure, .refused, .notImplemented: true
    default: false
    }
  }

  private static func message(_ message: [UInt8], with id: UInt16) -> [UInt8] {
    [UInt8(id >> 8), UInt8(truncatingIfNeeded: id)] + message.dropFirst(2)
  }
}
