import Linux
import Logging

/// Tells the service manager and the log what port 15021 says, whenever it changes. Belongs to the control loop.
///
/// Once the drain has begun the status is told by whoever counts what it waits for.
final class ServiceStatus {
  private let readiness: ReadinessState
  private let conditions: NodeConditions
  private let logger: Logger
  private var isReadyTold = false
  private var latest = ""

  init(_ readiness: ReadinessState, _ conditions: NodeConditions, logger: Logger) {
    self.readiness = readiness
    self.conditions = conditions
    self.logger = logger
  }

  /// Tells the service manager what it was told last.
  func tellAgain() {
    guard !readiness.isDraining, !latest.isEmpty else { return }
    ServiceNotifier.status(latest)
  }

  /// Looks whether there is anything new to tell.
  func update() {
    guard !readiness.isDraining else { return }
    let text = readiness.summary(conditions.current)
    guard text != latest else { return }
    latest = text
    if readiness.isReady, !isReadyTold {
      isReadyTold = true
      ServiceNotifier.ready()
    }
    ServiceNotifier.status(text)
    logger.info("\(text)")
  }
}
