import Linux
import Logging
import Metrics
import Telemetry

/// What the listeners of all pods and workers have to say when they cannot accept. They meet the same shortage, ten times a
/// second each: one line in a while is enough, and a metric counts the rest. Safe from any thread.
final class AcceptTrouble: Sendable {
  private let logger: Logger
  private let pauses: Counter
  private let throttle: LogThrottle

  /// Long enough that a shortage of an hour leaves a log that can be read.
  private static let interval = Duration.seconds(10)

  init(logger: Logger, pauses: Counter, interval: Duration = AcceptTrouble.interval) {
    self.logger = logger
    self.pauses = pauses
    throttle = LogThrottle(interval: interval)
  }

  /// A listener pauses because of `error`.
  func report(_ role: ListenerRole, _ error: SystemError) {
    pauses.add()
    guard let heldBack = throttle.admit() else { return }
    logger.warning(
      "cannot accept connections for now",
      metadata: ["port": "\(role.rawValue)", "error": "\(error)", "times_before_this_line": "\(heldBack)"])
  }
}
