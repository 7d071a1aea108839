import Linux
import Synchronization

/// Whether the agent still makes progress, for whoever may start it anew: a liveness probe, a service manager's watchdog.
/// Safe from any thread.
final class Heartbeat: Sendable {
  /// The loop beats every few seconds.
  static let longestSilence = Duration.seconds(30)
  /// A job may wait half a minute for the lock of the tables, all others behind it.
  static let longestStall = Duration.seconds(90)

  private let last = Mutex(ContinuousClock.now)
  private let threads: BlockingThreads

  init(_ threads: BlockingThreads) { self.threads = threads }

  /// Called on the agent's loop.
  func beat(at now: ContinuousClock.Instant = .now) { last.withLock { $0 = max($0, now) } }

  /// What has come to a halt; nil when nothing has.
  func trouble(at now: ContinuousClock.Instant = .now) -> String? {
    let silence = last.withLock { $0 }.duration(to: now)
    if silence > Self.longestSilence { return "the agent's loop has not turned for \(silence.components.seconds) s" }
    if let stall = threads.stall(at: now), stall > Self.longestStall {
      return "all threads for work in namespaces have been busy with the same for \(stall.components.seconds) s"
    }
    return nil
  }
}
