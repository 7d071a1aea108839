/// Durations as people write them in manifests: `10s`, `5m`, `1h30m`, or bare seconds (lifecycle.md §10).
public enum DurationText {
  /// Longest duration accepted: a century of days keeps every sum with an instant far from overflow.
  public static let longest = Duration.seconds(36_500 * 86_400)

  /// Milliseconds of each unit, from the largest to the smallest.
  private static let units: [(name: Substring, milliseconds: Int64)] = [
    ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1),
  ]

  /// Whole numbers, each with a unit of `d`, `h`, `m`, `s` or `ms`, each unit once and from large to small; or one
  /// number of seconds. Nil for anything else, and past ``longest``.
  public static func parse(_ text: String) -> Duration? {
    if let seconds = DecimalText.wholeNumber(text[...]) { return duration(milliseconds: seconds, times: 1000) }
    var rest = text[...]
    var remainingUnits = units[...]
    var total = Duration.zero
    guard !rest.isEmpty else { return nil }
    while !rest.isEmpty {
      let digits = rest.prefix { $0.isASCII && $0.isNumber }
      rest = rest.dropFirst(digits.count)
      let name = rest.prefix { $0.isASCII && $0.isLetter }
      rest = rest.dropFirst(name.count)
      guard let number = DecimalText.wholeNumber(digits),
        let index = remainingUnits.firstIndex(where: { $0.name == name }),
        let part = duration(milliseconds: number, times: remainingUnits[index].milliseconds)
      else { return nil }
      remainingUnits = remainingUnits[(index + 1)...]
      total += part
    }
    return total <= longest ? total : nil
  }

  /// The shortest form that parses back to the same duration, cut to whole milliseconds.
  public static func describe(_ duration: Duration) -> String {
    let (seconds, attoseconds) = duration.components
    var rest = seconds * 1000 + attoseconds / 1_000_000_000_000_000
    var text = ""
    for unit in units where rest >= unit.milliseconds {
      text += "\(rest / unit.milliseconds)\(unit.name)"
      rest %= unit.milliseconds
    }
    return text.isEmpty ? "0s" : text
  }

  private static func duration(milliseconds number: UInt64, times factor: Int64) -> Duration? {
    let (product, isTooLarge) = Int64(clamping: number).multipliedReportingOverflow(by: factor)
    guard !isTooLarge, Duration.milliseconds(product) <= longest else { return nil }
    return .milliseconds(product)
  }
}
