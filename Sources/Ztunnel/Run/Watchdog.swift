import Linux
import Logging
import Vocabulary

/// Which workers have made progress since they were last asked: a value, so that it can be tested without threads.
struct ProgressBook {
  /// Nil while an answer is outstanding.
  private var answered: [ContinuousClock.Instant?]
  private var asked: [ContinuousClock.Instant?]

  init(workers: Int) {
    answered = Array(repeating: nil, count: workers)
    asked = answered
  }

  /// The workers to ask now: those that owe no answer.
  mutating func ask(at now: ContinuousClock.Instant) -> [Int] {
    asked.indices.filter { asked[$0] == nil }.map { index in
      asked[index] = now
      return index
    }
  }

  /// A worker has carried out what it was asked.
  mutating func answer(from worker: Int, at now: ContinuousClock.Instant) {
    guard asked.indices.contains(worker) else { return }
    asked[worker] = nil
    answered[worker] = now
  }

  /// Workers that have owed an answer for longer than `limit`.
  func stalled(at now: ContinuousClock.Instant, longerThan limit: Duration) -> [Int] {
    asked.indices.filter { index in asked[index].map { now - $0 > limit } ?? false }
  }

  /// Whether every worker has answered since `moment`.
  func haveAllAnswered(since moment: ContinuousClock.Instant) -> Bool {
    answered.allSatisfy { $0.map { $0 >= moment } ?? false }
  }
}

/// Tells the service manager that this process is alive, as long as every part of it is (`sd_watchdog_enabled(3)`).
///
/// A sign of life says that each worker has run a task, and this loop a timer, since the sign before. One stuck worker is
/// enough to have the process restarted: its connections are stuck, those of the others are cut, and new ones wait in the
/// sockets that outlive the process.
///
/// Belongs to the control loop.
final class Watchdog {
  private let loop: EventLoop
  private let workers: [WorkerHandle]
  private let interval: Duration
  private let logger: Logger
  private var book: ProgressBook
  private var lastSign: ContinuousClock.Instant
  private var reported: Set<Int> = []

  /// Nil where nobody watches.
  init?(
    _ workers: [WorkerHandle], interval: Duration? = ServiceNotifier.watchdogInterval, on loop: EventLoop,
    logger: Logger
  ) {
    guard let interval, interval > .zero else { return nil }
    self.interval = interval
    self.loop = loop
    self.workers = workers
    self.logger = logger
    book = ProgressBook(workers: workers.count)
    lastSign = .now
  }

  /// Gives signs of life from now on.
  func start() {
    ServiceNotifier.alive()
    lastSign = .now
    turn()
  }

  private func turn() {
    let now = ContinuousClock.now
    // Three times within the interval, so that neither one late timer nor one slow turn of a worker is taken for a stall.
    if book.haveAllAnswered(since: lastSign) {
      ServiceNotifier.alive()
      lastSign = now
      reported = []
    }
    for index in book.stalled(at: now, longerThan: interval / 2) where reported.insert(index).inserted {
      logger.critical(
        "a worker makes no progress: the service manager will restart this process",
        metadata: ["worker": "\(index)", "error_code": "WORKER_STALLED", "limit": "\(interval)"])
    }
    for index in book.ask(at: now) {
      let worker = workers[index]
      loop.spawn { [self] in
        await worker.run { _ in }
        book.answer(from: index, at: .now)
      }
    }
    _ = loop.schedule(after: interval / 6) { [weak self] in self?.turn() }
  }
}
