/// How long to wait after failures: doubling up to a limit, with jitter so that the nodes of a cluster do not come back
/// all at once.
public struct BackOff: Sendable {
  private let first: Duration
  private let longest: Duration
  private var next: Duration

  public init(first: Duration = .milliseconds(250), longest: Duration = .seconds(15)) {
    self.first = first
    self.longest = longest
    next = first
  }

  /// The delay after one more failure. `jitter` is 0 to 1 and spreads it from half to one and a half of its length.
  public mutating func delay(jitter: Double = .random(in: 0...1)) -> Duration {
    defer { next = min(next * 2, longest) }
    return next * (0.5 + jitter)
  }

  public mutating func reset() { next = first }
}
