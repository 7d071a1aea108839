import Vocabulary

/// The chain of decisions about one connection that somebody asked about, and what came out of it.
public struct Explanation: Equatable, Sendable {
  public enum Outcome: String, Hashable, Sendable, CaseIterable {
    /// Mutual TLS all the way that is known here, and policy allows it.
    case allowedEncrypted = "allowed, encrypted"
    /// Policy refuses it, or there is no way to route it.
    case denied
    /// It would work, and anybody on the way could read it.
    case allowedPlaintext = "allowed, NOT encrypted"
    /// Something that decides is not known here.
    case unknown

    /// What the command ends with.
    public var exitStatus: Int32 {
      switch self {
      case .allowedEncrypted: 0
      case .denied: 1
      case .allowedPlaintext: 2
      case .unknown: 3
      }
    }

    /// How much there is to worry about; of several endpoints the worst counts.
    var severity: Int {
      switch self {
      case .allowedEncrypted: 0
      case .allowedPlaintext: 1
      case .unknown: 2
      case .denied: 3
      }
    }
  }

  /// What a line is about, in the order of a connection's life.
  public enum Topic: String, Hashable, Sendable, CaseIterable {
    case source, captured, destination, route
    case nextHop = "next hop"
    case encrypted, presented, expected
    case inbound, policy
    case dryRun = "dry run"
    case verdict, note
  }

  /// One decision: what was decided and why, and where that is known from.
  public struct Line: Equatable, Sendable {
    public enum Mark: String, Hashable, Sendable {
      case good = "+"
      case bad = "!"
      case warning = "?"
      case neutral = " "
    }

    public var topic: Topic
    public var mark: Mark
    public var text: String
    /// Such as `workload Kubernetes//Pod/shop/web`; nil where the text says it.
    public var source: String?
  }

  /// What was asked.
  public var question: String
  public var outcome: Outcome
  public var lines: [Line]
  /// What to look at next, most promising first; empty when nothing is wrong.
  public var checks: [String]

  init(question: String) {
    self.question = question
    outcome = .unknown
    lines = []
    checks = []
  }

  mutating func add(_ topic: Topic, _ mark: Line.Mark, _ text: String, from source: String? = nil) {
    lines.append(Line(topic: topic, mark: mark, text: text, source: source))
  }

  mutating func check(_ text: String?) {
    guard let text, !checks.contains(text) else { return }
    checks.append(text)
  }

  /// For people: the outcome first, then one line a decision. Safe to print.
  public var text: String {
    let width = Topic.allCases.map(\.rawValue.count).max() ?? 0
    var result = "\(outcome.rawValue.uppercased()): \(question)\n\n"
    for line in lines {
      let topic = line.topic.rawValue
      let padding = String(repeating: " ", count: width - topic.count)
      result += "\(line.mark.rawValue) \(topic)\(padding)  \(line.text)"
      if let source = line.source { result += "  [\(source)]" }
      result += "\n"
    }
    if !checks.isEmpty { result += "\nwhat to check\n" + checks.map { "  - \($0)\n" }.joined() }
    return result.printable
  }
}
