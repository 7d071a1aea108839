import Synchronization

/// Counts the streams of events that are open: each has the workers list their connections again and again, so there is
/// a bound. Safe from any thread.
final class EventWatchers: Sendable {
  static let limit = 16

  /// One stream; counted as long as it exists.
  final class Watcher: Sendable {
    private let watchers: EventWatchers

    fileprivate init(_ watchers: EventWatchers) { self.watchers = watchers }

    deinit { watchers.open.withLock { $0 -= 1 } }
  }

  private let open = Mutex(0)

  /// Nil when there are too many.
  func enter() -> Watcher? {
    let isFree = open.withLock { open in
      guard open < Self.limit else { return false }
      open += 1
      return true
    }
    return isFree ? Watcher(self) : nil
  }
}
