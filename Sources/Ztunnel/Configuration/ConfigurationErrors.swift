import Vocabulary

/// One environment variable that cannot be used as it is set.
public struct ConfigurationProblem: Hashable, Sendable, CustomStringConvertible {
  /// The variable's name.
  public let variable: String
  /// What it is set to; nil when it is missing.
  public let value: String?
  /// What is wrong, and what would be right.
  public let reason: String

  public init(variable: String, value: String?, reason: String) {
    self.variable = variable
    self.value = value
    self.reason = reason
  }

  /// `NAME="value": reason`, with the value escaped and cut so that it fits a log line.
  public var description: String {
    guard let value else { return "\(variable): \(reason)" }
    return "\(variable)=\(Self.quoted(value)): \(reason)"
  }

  /// Longest part of a value that is shown, in characters.
  private static let longestValue = 80

  private static func quoted(_ value: String) -> String {
    let shown = value.unicodeScalars.prefix(longestValue).map { $0.escaped(asASCII: false) }.joined()
    return "\"\(shown)\"" + (value.unicodeScalars.count > longestValue ? "…" : "")
  }
}

/// Everything that is wrong with the environment, so that one start is enough to learn of all of it.
public struct ConfigurationErrors: CodedError, Equatable {
  /// In the order in which the variables are read; never empty.
  public let problems: [ConfigurationProblem]

  public init(problems: [ConfigurationProblem]) {
    self.problems = problems
  }

  public var code: String { "CONFIG_INVALID" }

  public var summary: String {
    let listed = problems.map(\.description).joined(separator: "; ")
    return problems.count == 1
      ? "the environment cannot be used: \(listed)"
      : "the environment cannot be used, for \(problems.count) reasons: \(listed)"
  }

  public var remedy: String? { "correct every variable named and start again" }
}
