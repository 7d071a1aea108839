/// Pauses after a file could not be written: a second, doubling to five minutes. Pure.
struct FileBackoff: Equatable, Sendable {
  static let first = Duration.seconds(1)
  static let longest = Duration.seconds(300)

  private var next = Self.first

  /// Counts a failure; the pause before the next try.
  mutating func fail() -> Duration {
    defer { next = min(next * 2, Self.longest) }
    return next
  }
}
