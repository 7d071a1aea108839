/// Pauses between streams (xds.md §4): 20 ms, doubling to 15 s, each up to half of it shorter so that the nodes of a mesh
/// do not come back together.
public struct StreamBackoff: Equatable, Sendable {
  static let first = Duration.milliseconds(20)
  static let longest = Duration.seconds(15)
  /// A stream that ran this long was a good one.
  static let goodStream = Duration.seconds(30)

  private var failures = 0

  public init() {}

  /// The pause after a stream that lasted `duration`, or could not be opened. `random` is even in 0..<1.
  public mutating func pause(after duration: Duration, random: Double) -> Duration {
    if duration >= Self.goodStream { failures = 0 }
    // Ten doublings pass the longest pause.
    let nominal = min(Self.first * (1 << min(failures, 10)), Self.longest)
    failures += 1
    return nominal * (1 - random / 2)
  }
}
