/// The growing pauses between failed fetches of one certificate (identity.md §5): 1 s, doubling to 150 s, each ±20 %.
struct FetchBackoff: Equatable, Sendable {
  static let first = Duration.seconds(1)
  static let longest = Duration.seconds(150)
  /// The longest pause while a connection waits for the certificate (identity.md limit 2).
  static let longestUrgent = Duration.seconds(5)

  private(set) var failures = 0

  /// Counts a failure. Returns the pause before the next attempt and the shorter one that holds while somebody waits.
  ///
  /// `random` is even in 0..<1.
  mutating func fail(random: Double) -> (scheduled: Duration, urgent: Duration) {
    // Eight doublings pass the longest pause; more would only overflow.
    let nominal = min(Self.first * (1 << min(failures, 8)), Self.longest)
    failures += 1
    let scheduled = nominal * (0.8 + 0.4 * random)
    return (scheduled, min(scheduled, Self.longestUrgent))
  }

  /// Forgets all failures.
  mutating func succeed() {
    failures = 0
  }
}
