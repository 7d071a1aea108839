/// How long to wait before dialling the node agent again: doubling, with jitter, up to a limit (zds.md §7).
public struct DialBackOff: Sendable {
  public let first: Duration
  public let longest: Duration
  private var next: Duration

  public init(first: Duration = .milliseconds(10), longest: Duration = .seconds(15)) {
    self.first = first
    self.longest = longest
    next = first
  }

  /// The delay before the next attempt: up to a fifth more or less than planned, so that the ztunnels of a node do not
  /// dial in step, and never more than `longest`.
  public mutating func delay(using random: inout some RandomNumberGenerator) -> Duration {
    let planned = next
    next = min(next * 2, longest)
    return min(planned * Double.random(in: 0.8...1.2, using: &random), longest)
  }

  /// Starts over, after a session that went well.
  public mutating func reset() { next = first }
}
