import Vocabulary

/// Why a log filter was refused.
public enum LogFilterError: CodedError, Equatable {
  case empty
  case unknownLevel(clause: String)
  case malformedTarget(clause: String)
  case tooLong(limit: Int)
  case tooManyClauses(limit: Int)

  public var code: String {
    switch self {
    case .empty: "LOG_FILTER_EMPTY"
    case .unknownLevel: "LOG_FILTER_UNKNOWN_LEVEL"
    case .malformedTarget: "LOG_FILTER_MALFORMED_TARGET"
    case .tooLong: "LOG_FILTER_TOO_LONG"
    case .tooManyClauses: "LOG_FILTER_TOO_MANY_CLAUSES"
    }
  }

  public var summary: String {
    switch self {
    case .empty: "the log filter has no clause"
    case .unknownLevel(let clause): "the log filter clause \"\(clause)\" has no known level"
    case .malformedTarget(let clause): "the log filter clause \"\(clause)\" has no usable target"
    case .tooLong(let limit): "the log filter is longer than \(limit) bytes"
    case .tooManyClauses(let limit): "the log filter names more than \(limit) targets"
    }
  }

  public var remedy: String? {
    switch self {
    case .tooLong, .tooManyClauses: "reset the filter, or name a common prefix instead of many targets"
    case .empty, .unknownLevel, .malformedTarget:
      "write a comma-separated list of LEVEL or TARGET=LEVEL with a level of off, error, warn, info, debug or trace"
    }
  }
}

/// Which log events are written, for each target: the grammar of `RUST_LOG` (observability.md §1).
///
/// `info,access=debug` is a default and an exception. A clause applies to every target that begins with its own;
/// the longest such clause decides. A value keeps one clause a target, the latest.
public struct LogFilter: Hashable, Sendable, CustomStringConvertible {
  /// The level of one group of targets.
  public struct Clause: Hashable, Sendable {
    /// A target's beginning; empty for the default.
    public let target: String
    public let threshold: LogThreshold
  }

  /// Longest accepted text, in bytes.
  public static let longestText = 4096
  /// Most targets a filter names: clauses appended at run time must not pile up without end.
  public static let mostClauses = 128

  /// In the order in which they were last given.
  public private(set) var clauses: [Clause]

  /// What a daemon starts with when nothing is configured.
  public static let standard = LogFilter(clauses: [Clause(target: "", threshold: .info)])

  /// The value of `RUST_LOG`; absent and blank mean ``standard``. Throws ``LogFilterError``.
  public init(environmentValue text: String?) throws(LogFilterError) {
    guard let text, text.contains(where: { !$0.isWhitespace }) else {
      self = .standard
      return
    }
    try self.init(text)
  }

  /// Parses a comma-separated list of `level`, `target=level` or `target:level`; empty clauses are skipped.
  /// Throws ``LogFilterError``.
  public init(_ text: String) throws(LogFilterError) {
    guard text.utf8.count <= Self.longestText else { throw .tooLong(limit: Self.longestText) }
    self.init(clauses: [])
    for clause in text.split(separator: ",") {
      let trimmed = Self.trimmed(clause)
      if !trimmed.isEmpty { insert(try Self.parse(trimmed)) }
    }
    guard !clauses.isEmpty else { throw .empty }
    guard clauses.count <= Self.mostClauses else { throw .tooManyClauses(limit: Self.mostClauses) }
  }

  private init(clauses: [Clause]) {
    self.clauses = clauses
  }

  /// This filter with another's clauses after its own, so that they win where both speak of the same target.
  /// Throws ``LogFilterError/tooManyClauses(limit:)``.
  public func appending(_ other: LogFilter) throws(LogFilterError) -> LogFilter {
    var result = self
    for clause in other.clauses { result.insert(clause) }
    guard result.clauses.count <= Self.mostClauses else { throw .tooManyClauses(limit: Self.mostClauses) }
    return result
  }

  /// The threshold of a target: the longest matching clause, `off` where none matches.
  public func threshold(for target: String) -> LogThreshold {
    clauses
      .filter { target.hasPrefix($0.target) }
      .max { $0.target.utf8.count < $1.target.utf8.count }?
      .threshold ?? .off
  }

  /// What the targets of pods begin with; `namespace/name` follows.
  public static let podPrefix = "pod/"

  /// The threshold of a pod, `namespace/name`: only a clause that speaks of pods decides, and without one it is `off`.
  public func threshold(ofPod name: String) -> LogThreshold {
    LogFilter(clauses: clauses.filter { $0.target.hasPrefix(Self.podPrefix) }).threshold(for: Self.podPrefix + name)
  }

  /// The clauses, in a form that parses back to an equal filter.
  public var description: String {
    clauses.map { $0.target.isEmpty ? "\($0.threshold)" : "\($0.target)=\($0.threshold)" }.joined(separator: ",")
  }

  private mutating func insert(_ clause: Clause) {
    clauses.removeAll { $0.target == clause.target }
    clauses.append(clause)
  }

  private static func parse(_ text: Substring) throws(LogFilterError) -> Clause {
    guard let separator = text.lastIndex(of: "=") ?? text.lastIndex(of: ":") else {
      guard let threshold = LogThreshold(text) else { throw .unknownLevel(clause: String(text)) }
      return Clause(target: "", threshold: threshold)
    }
    let target = trimmed(text[..<separator])
    guard let threshold = LogThreshold(trimmed(text[text.index(after: separator)...])) else {
      throw .unknownLevel(clause: String(text))
    }
    // A target that ends in a colon is a path cut in two, as in `ztunnel::debug`.
    guard !target.isEmpty, target.last != ":", target.utf8.allSatisfy(isTargetByte) else {
      throw .malformedTarget(clause: String(text))
    }
    return Clause(target: String(target), threshold: threshold)
  }

  private static func isTargetByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: ":"), UInt8(ascii: "_"), UInt8(ascii: "-"),
      UInt8(ascii: "."), UInt8(ascii: "/"):
      true
    default: false
    }
  }

  private static func trimmed(_ text: Substring) -> Substring {
    var text = text
    while text.first?.isWhitespace == true { text.removeFirst() }
    while text.last?.isWhitespace == true { text.removeLast() }
    return text
  }
}
