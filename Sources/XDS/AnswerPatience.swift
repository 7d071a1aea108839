/// How long the first response of a stream is waited for: half a minute, and twice as long after each stream that had none,
/// so that a control plane that is only slow is not asked again and again by all nodes at once. Pure.
struct AnswerPatience: Equatable, Sendable {
  static let first = Duration.seconds(30)
  static let longest = Duration.seconds(300)

  private var next = Self.first
  private var current = Self.first
  /// The time in which nothing came on the stream of now; nil where something did, or still may.
  private(set) var exceeded: Duration?

  /// A stream begins: the time it has.
  mutating func begin() -> Duration {
    exceeded = nil
    current = next
    return current
  }

  /// The time is over.
  mutating func exceed() {
    exceeded = current
    next = min(current * 2, Self.longest)
  }

  /// A response has come.
  mutating func answered() {
    exceeded = nil
    next = Self.first
  }
}
