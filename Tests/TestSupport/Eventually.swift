import Glibc
import Linux

/// Checks a condition every few milliseconds until it holds. Returns whether it did within the limit.
public func eventually(within limit: Duration = .seconds(5), _ condition: () throws -> Bool) rethrows -> Bool {
  let deadline = ContinuousClock.now + limit
  while true {
    if try condition() { return true }
    if ContinuousClock.now >= deadline { return false }
    usleep(5000)
  }
}

/// The same for conditions that wait themselves; gives up early when the test is cancelled.
public func eventually(
  within limit: Duration = .seconds(5), _ condition: () async throws -> Bool
) async throws -> Bool {
  let deadline = ContinuousClock.now + limit
  while true {
    if try await condition() { return true }
    if ContinuousClock.now >= deadline { return false }
    try await Task.sleep(for: .milliseconds(5))
  }
}

extension EventLoop {
  /// The same on a loop, for what happens there: others run meanwhile.
  public func eventually(within limit: Duration = .seconds(10), _ condition: () -> Bool) async -> Bool {
    let end = ContinuousClock.now + limit
    while !condition() {
      if ContinuousClock.now >= end { return false }
      await sleep(for: .milliseconds(1))
    }
    return true
  }
}

/// A moment by which something must have happened.
struct Deadline {
  private let end: ContinuousClock.Instant

  init(in limit: Duration) { end = .now + limit }

  var hasPassed: Bool { ContinuousClock.now >= end }

  /// What `poll` takes, at least 0.
  var milliseconds: CInt {
    let rest = (end - .now).components
    return CInt(clamping: max(0, rest.seconds * 1000 + rest.attoseconds / 1_000_000_000_000_000 + 1))
  }
}
