import Glibc
import Linux
import Logging
import Metrics
import Telemetry
import Vocabulary

/// Why new connections are not accepted for now.
enum AcceptError: CodedError {
  /// This process has as many descriptors open as it may, or the system has.
  case noDescriptors(SystemError)
  /// The system has no memory for them.
  case failed(SystemError)

  init(_ error: SystemError) {
    self = [EMFILE, ENFILE].contains(error.number) ? .noDescriptors(error) : .failed(error)
  }

  var code: String {
    switch self {
    case .noDescriptors: "ACCEPT_NO_DESCRIPTORS"
    case .failed: "ACCEPT_FAILED"
    }
  }

  var summary: String {
    switch self {
    case .noDescriptors(let error): "no descriptors are left: \(error.summary)"
    case .failed(let error): error.summary
    }
  }

  var remedy: String? {
    switch self {
    case .noDescriptors:
      "raise the limit of open files (LimitNOFILE=); /connections tells which pod has how many connections"
    case .failed: "see what uses up the node's memory"
    }
  }
}

/// What the listeners of all pods and workers have to say when they cannot accept. They meet the same shortage, ten times a
/// second each: one line in a while is enough, and metrics count the rest. Safe from any thread.
final class AcceptTrouble: Sendable {
  private let logger: Logger
  private let pauses: Counter
  private let turnedAway: Counter
  private let throttle: LogThrottle
  private let refusals: LogThrottle
  private let recoveries: LogThrottle

  /// Long enough that a shortage of an hour leaves a log that can be read.
  private static let interval = Duration.seconds(10)

  init(logger: Logger, pauses: Counter, turnedAway: Counter, interval: Duration = AcceptTrouble.interval) {
    self.logger = logger
    self.pauses = pauses
    self.turnedAway = turnedAway
    throttle = LogThrottle(interval: interval)
    refusals = LogThrottle(interval: interval)
    recoveries = LogThrottle(interval: interval)
  }

  /// A listener pauses because of `error`; who comes waits.
  func report(_ role: ListenerRole, _ error: SystemError) {
    pauses.add()
    warn("cannot accept connections for now", role, error, throttle)
  }

  /// A connection was closed at once because of `error`.
  func turnAway(_ role: ListenerRole, _ error: SystemError) {
    turnedAway.add()
    warn("turns connections away, so that their clients do not wait in vain", role, error, refusals)
  }

  /// A listener that could not accept does again.
  func recovered(_ role: ListenerRole) {
    guard recoveries.admit() != nil else { return }
    logger.info("accepts connections again", metadata: ["port": "\(role.rawValue)"])
  }

  private func warn(_ message: Logger.Message, _ role: ListenerRole, _ error: SystemError, _ throttle: LogThrottle) {
    guard let heldBack = throttle.admit() else { return }
    let error = AcceptError(error)
    logger.warning(
      message,
      metadata: [
        "port": "\(role.rawValue)", "error": "\(error)", "error_code": "\(error.code)",
        "times_before_this_line": "\(heldBack)",
      ])
  }
}
