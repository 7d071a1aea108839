/// Plain decimal numbers: no sign, no exponent, no space, no other script's digits.
public enum DecimalText {
  /// Digits only. Nil for anything else, and past 64 bits.
  public static func wholeNumber(_ text: Substring) -> UInt64? {
    guard !text.isEmpty, text.utf8.allSatisfy(isDigit) else { return nil }
    return UInt64(text)
  }

  /// A number with an optional fraction, in thousandths, rounded up. Nil for anything else, and past a million.
  public static func thousandths(_ text: Substring) -> UInt64? {
    let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    guard let first = parts.first, let whole = wholeNumber(first), whole <= 1_000_000 else { return nil }
    guard parts.count == 2 else { return whole * 1000 }
    let fraction = parts[1]
    guard !fraction.isEmpty, fraction.utf8.allSatisfy(isDigit) else { return nil }
    let shown = String(fraction.prefix(3))
    guard let leading = UInt64(shown + String(repeating: "0", count: 3 - shown.count)) else { return nil }
    let hasMore = fraction.dropFirst(3).contains { $0 != "0" }
    return whole * 1000 + leading + (hasMore ? 1 : 0)
  }

  private static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
}
