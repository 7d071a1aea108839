import Vocabulary

/// Reads variables by type, and collects what is wrong with them instead of stopping at the first.
///
/// A variable with a problem reads as its default: the value is never used, because the problems end the start-up.
struct EnvironmentReader {
  var environment: [String: String]
  private(set) var problems: [ConfigurationProblem] = []

  init(_ environment: [String: String]) {
    self.environment = environment
  }

  func value(_ name: String) -> String? { environment[name] }

  /// True when the variable is there and not empty.
  func isGiven(_ name: String) -> Bool { environment[name]?.isEmpty == false }

  mutating func report(_ name: String, _ reason: String) {
    problems.append(ConfigurationProblem(variable: name, value: environment[name], reason: reason))
  }

  /// Exactly `true` or `false`; nil when unset.
  mutating func bool(_ name: String) -> Bool? {
    guard let text = environment[name] else { return nil }
    switch text {
    case "true": return true
    case "false": return false
    default:
      report(name, "must be exactly true or false")
      return nil
    }
  }

  mutating func bool(_ name: String, default standard: Bool) -> Bool { bool(name) ?? standard }

  /// A whole decimal number within `range`.
  mutating func number<Number: FixedWidthInteger>(
    _ name: String, default standard: Number, in range: ClosedRange<Number>
  ) -> Number {
    guard let text = environment[name] else { return standard }
    guard let number = DecimalText.wholeNumber(text[...]).flatMap(Number.init(exactly:)), range.contains(number) else {
      report(name, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
      return standard
    }
    return number
  }

  /// A duration within `range`; nil when unset.
  mutating func duration(_ name: String, in range: ClosedRange<Duration>) -> Duration? {
    guard let text = environment[name] else { return nil }
    guard let duration = DurationText.parse(text), range.contains(duration) else {
      let (least, most) = (DurationText.describe(range.lowerBound), DurationText.describe(range.upperBound))
      report(name, "must be a duration such as 10s, 5m or 1h30m, or bare seconds, from \(least) to \(most)")
      return nil
    }
    return duration
  }

  /// A text that must not be empty; nil when unset.
  mutating func nonEmpty(_ name: String, _ what: String) -> String? {
    guard let text = environment[name] else { return nil }
    guard !text.isEmpty else {
      report(name, "must be \(what); unset it if there is none")
      return nil
    }
    return text
  }

  /// A path no longer than `limit` bytes and without a zero byte; nil when unset.
  mutating func path(_ name: String, _ what: String, limit: Int = 4095) -> String? {
    guard let text = nonEmpty(name, what) else { return nil }
    guard text.utf8.count <= limit, !text.utf8.contains(0) else {
      report(name, "must be a path of at most \(limit) bytes without a zero byte")
      return nil
    }
    return text
  }
}
