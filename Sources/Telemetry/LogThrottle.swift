import Synchronization

/// Lets one of many equal log lines through in a while, and says how many it has held back. Safe from any thread.
public final class LogThrottle: Sendable {
  private struct State {
    var latest: ContinuousClock.Instant?
    var heldBack: UInt64 = 0
  }

  private let interval: Duration
  private let state = Mutex(State())

  /// At most one line within `interval`.
  public init(interval: Duration) { self.interval = interval }

  /// How many lines were held back since the one before, if this one may be written; nil if it may not.
  public func admit(at now: ContinuousClock.Instant = .now) -> UInt64? {
    state.withLock { state in
      if let latest = state.latest, now - latest < interval {
        state.heldBack += 1
        return nil
      }
      defer { state.heldBack = 0 }
      state.latest = now
      return state.heldBack
    }
  }
}
