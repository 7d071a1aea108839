import TLS

/// The two clocks a certificate store lives by: certificates end by the wall clock, waits by the monotonic one.
public protocol StoreClock: Sendable {
  /// The wall clock, which may be stepped in either direction at any time.
  var wall: Timestamp { get }
  /// The monotonic clock.
  var monotonic: ContinuousClock.Instant { get }
  /// Suspends until the monotonic clock has reached an instant. Throws when the task is cancelled.
  func sleep(until instant: ContinuousClock.Instant) async throws
}

/// The machine's clocks.
public struct SystemClock: StoreClock {
  public init() {}

  public var wall: Timestamp { .now }
  public var monotonic: ContinuousClock.Instant { .now }

  public func sleep(until instant: ContinuousClock.Instant) async throws {
    try await Task.sleep(until: instant, clock: .continuous)
  }
}
