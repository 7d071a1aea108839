import Glibc
import Linux
import Logging
import Vocabulary

/// Why a running ztunnel was not replaced. It goes on as before.
enum UpgradeError: CodedError, Equatable {
  /// This one is on its way out, rests because another one serves, or does not serve yet.
  case notServing
  case underWay
  /// With the first process of a container all others end.
  case firstProcess
  case cannotStart(SystemError)
  case successorEnded
  case successorLate(Duration)

  var code: String {
    switch self {
    case .notServing: "UPGRADE_NOT_SERVING"
    case .underWay: "UPGRADE_UNDER_WAY"
    case .firstProcess: "UPGRADE_FIRST_PROCESS"
    case .cannotStart: "UPGRADE_CANNOT_START"
    case .successorEnded: "UPGRADE_SUCCESSOR_ENDED"
    case .successorLate: "UPGRADE_SUCCESSOR_LATE"
    }
  }

  var summary: String {
    switch self {
    case .notServing: "this ztunnel is not the one that serves: it starts, ends, or another one has taken over"
    case .underWay: "an upgrade is under way"
    case .firstProcess: "the first process of a container cannot be replaced: all others would end with it"
    case .cannotStart(let error): "the next ztunnel cannot be started: \(error.summary)"
    case .successorEnded: "the next ztunnel ended before it had taken over"
    case .successorLate(let limit): "the next ztunnel did not take over within \(limit)"
    }
  }

  var remedy: String? {
    switch self {
    case .notServing, .underWay: nil
    case .firstProcess: "upgrade the container; two of them overlap"
    case .cannotStart: "check the program file"
    case .successorEnded: "its log says why"
    case .successorLate: "its log says what it waits for; a node agent that tells ztunnels apart must be there"
    }
  }
}

/// Replaces this process by a new one of the program file as it is now, without an end between the two: the next one is
/// started beside it, takes over new connections and those that can be moved, and becomes the service's main process; this
/// one sees the others to their end. Belongs to the control loop.
final class InPlaceUpgrade {
  private enum State {
    case idle
    case starting(OrphanProcess, LoopTimer, (Result<Int32, UpgradeError>) -> Void)
    case replaced
  }

  private let loop: EventLoop
  private let logger: Logger
  /// Found before anybody could replace the file.
  private let program: Result<String, SystemError>
  private var state = State.idle

  /// Time that the next one has to take over. With a control plane that is slow, that may be long.
  private static let patience = Duration.seconds(90)
  /// Time that one that came too late has to end by itself.
  private static let grace = Duration.seconds(30)

  /// Tells the next one that it is one, and whose.
  private static let mark = "AMBIENT_SUCCEEDS"
  /// When the next one says again what it has said to the service manager: as long as it was not the main process, it was
  /// not heard.
  private static let repetitions: [Duration] = [.seconds(10), .seconds(30), patience + .seconds(10)]

  /// In a process that replaces another one, calls `body` a few times, the last time when it must be the service's main
  /// process. Elsewhere does nothing.
  static func repeatForServiceManager(on loop: EventLoop, _ body: @escaping () -> Void) {
    guard getenv(mark) != nil else { return }
    for delay in repetitions { _ = loop.schedule(after: delay, body) }
  }

  init(on loop: EventLoop, logger: Logger) {
    self.loop = loop
    self.logger = logger
    program = Result(catching: OrphanProcess.ownProgram)
  }

  /// This process has been replaced. As long as the next one lives, it only sees its connections to their end.
  var isReplaced: Bool { if case .replaced = state { true } else { false } }

  /// Starts the next one and suspends until it has taken over. Returns its process id.
  func begin() async throws(UpgradeError) -> Int32 {
    if case .starting = state { throw .underWay }
    guard case .idle = state else { throw .notServing }
    guard getpid() != 1 else { throw .firstProcess }
    let process: OrphanProcess
    do throws(SystemError) {
      process = try OrphanProcess(
        try program.get(), arguments: CommandLine.arguments,
        environment: OrphanProcess.inheritedEnvironment(adding: [Self.mark: "\(getpid())"]))
    } catch { throw .cannotStart(error) }
    logger.info("the next ztunnel is started, to take over", metadata: ["process": "\(process.id)"])
    let outcome = await withUnsafeContinuation {
      (continuation: UnsafeContinuation<Result<Int32, UpgradeError>, Never>) in
      let timer = loop.schedule(after: Self.patience) { [unowned self] in fail(.successorLate(Self.patience)) }
      state = .starting(process, timer) { continuation.resume(returning: $0) }
      do throws(SystemError) {
        try process.whenEnded(on: loop) { [unowned self] in fail(.successorEnded) }
      } catch { fail(.cannotStart(error)) }
    }
    return try outcome.get()
  }

  /// Another ztunnel serves now.
  func takenOver() {
    switch state {
    case .idle: break
    case .starting(let process, let timer, let report):
      timer.cancel()
      process.forget()
      state = .replaced
      ServiceNotifier.leaveService(to: process.id)
      report(.success(process.id))
    // There was nobody for a moment.
    case .replaced: ServiceNotifier.isSilent = true
    }
  }

  /// This process serves again: there is no other one now.
  func takenBack() {
    guard isReplaced else { return }
    // If the service manager has not taken the other one for the main process, it waits for signs of life.
    ServiceNotifier.isSilent = false
    logger.warning("the ztunnel that had taken over is not there: this one serves, without its admin interface")
  }

  /// This process ends: there is nobody to be replaced.
  func abandon() { fail(.notServing) }

  private func fail(_ error: UpgradeError) {
    guard case .starting(let process, let timer, let report) = state else { return }
    timer.cancel()
    process.forget()
    process.signal(SIGTERM)
    // Also the end of its hold on the process.
    _ = loop.schedule(after: Self.grace) { process.signal(SIGKILL) }
    state = .idle
    logger.error("not replaced: \(error.summary)", metadata: ["error_code": "\(error.code)"])
    report(.failure(error))
  }
}
