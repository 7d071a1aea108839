extension EnvironmentReader {
  /// Longest deadline and grace period: nobody waits a year for connections to end.
  private static let longest = Duration.seconds(365 * 86_400)

  /// How long connections may run on once the process is asked to end (lifecycle.md §6).
  ///
  /// Without a deadline of its own it is taken from the grace period, a little less of it, so that the process ends
  /// by itself before it is killed.
  mutating func terminationDeadline() -> Duration {
    let own = duration("CONNECTION_TERMINATION_DEADLINE", in: .zero...Self.longest)
    let grace: Int64 = number(
      "TERMINATION_GRACE_PERIOD_SECONDS", default: -1, in: 0...Self.longest.components.seconds)
    if let own { return own }
    switch grace {
    case ..<0: return .seconds(5)
    case ...10: return .seconds(max(1, grace - 1))
    default: return .seconds(grace - 5)
    }
  }
}
