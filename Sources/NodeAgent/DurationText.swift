/// Durations as Istio's settings write them: `30s`, `500ms`, `1h30m`; a bare number means seconds.
enum DurationText {
  /// Nil for anything else, and for more than a year.
  static func parse(_ text: String) -> Duration? {
    if let seconds = UInt32(text) { return bounded(.seconds(Int(seconds))) }
    var total = Duration.zero
    var rest = text[...]
    guard !rest.isEmpty else { return nil }
    while !rest.isEmpty {
      let digits = rest.prefix { $0.isASCII && $0.isNumber }
      rest = rest.dropFirst(digits.count)
      let unit = rest.prefix { $0.isASCII && $0.isLetter }
      rest = rest.dropFirst(unit.count)
      guard let count = UInt32(digits), let length = length(of: unit) else { return nil }
      total += length * Int(count)
    }
    return bounded(total)
  }

  private static func length(of unit: Substring) -> Duration? {
    switch unit {
    case "ms": .milliseconds(1)
    case "s": .seconds(1)
    case "m": .seconds(60)
    case "h": .seconds(3600)
    default: nil
    }
  }

  private static func bounded(_ duration: Duration) -> Duration? {
    duration <= .seconds(365 * 86_400) ? duration : nil
  }
}
