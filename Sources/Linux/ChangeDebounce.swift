/// When to look at a file again after a burst of events: soon after the burst, and not in the middle of a write.
struct ChangeDebounce {
  enum Hint {
    /// The file's content changed, and more may follow.
    case beingWritten
    /// The file was closed by its writer, replaced or removed.
    case settled
    /// Something else happened in its directory, such as a link on the way to it being swapped.
    case elsewhere
  }

  /// Quiet time after which a settled file is looked at.
  static let quiet = Duration.milliseconds(100)
  /// Quiet time for a file that is still open for writing: half a document can be a valid one.
  static let quietWhileWritten = Duration.seconds(1)
  /// A directory in which something happens all the time delays a look no longer than this.
  static let longest = Duration.seconds(1)
  /// The same for a file that is written without end.
  static let longestWhileWritten = Duration.seconds(10)

  private var began: ContinuousClock.Instant?
  private var isBeingWritten = false

  /// The instant at which to look, unless another hint comes first.
  mutating func note(_ hint: Hint, at now: ContinuousClock.Instant) -> ContinuousClock.Instant {
    switch hint {
    case .beingWritten: isBeingWritten = true
    case .settled: isBeingWritten = false
    case .elsewhere: break
    }
    let start = began ?? now
    began = start
    return isBeingWritten
      ? min(now + Self.quietWhileWritten, start + Self.longestWhileWritten)
      : min(now + Self.quiet, start + Self.longest)
  }

  /// The file was looked at: the next hint begins a new burst.
  mutating func reset() {
    self = ChangeDebounce()
  }
}
