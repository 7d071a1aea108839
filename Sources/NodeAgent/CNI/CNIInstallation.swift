import CNI
import Linux
import Logging

/// Keeps the plugin installed: looks again whenever something changes in the node's directories or in the service
/// account's, and puts right what others have changed. Belongs to its event loop.
public final class CNIInstallation {
  /// How it is with the plugin, and since when.
  public struct State: Equatable, Sendable {
    /// New pods pass through the plugin, as far as the last look tells.
    public internal(set) var isInstalled = false
    /// Since when it has not been so, after it once was.
    var failingSince: ContinuousClock.Instant?
    var wasInstalled = false
    /// Passes by their result, as `istio_cni_installs_total` counts them (enrollment.md §9.1).
    public internal(set) var counts: [String: Int] = [:]

    /// Ready when it was installed once and has not been broken for long: a repair, which takes moments, is nothing that
    /// the cluster should act on (enrollment.md limit 16).
    func isReady(at now: ContinuousClock.Instant) -> Bool {
      guard wasInstalled else { return false }
      return failingSince.map { now - $0 < Self.grace } ?? true
    }

    static let grace = Duration.seconds(10)

    mutating func take(_ report: CNIInstaller.Report, at now: ContinuousClock.Instant) {
      isInstalled = report.isInstalled
      if isInstalled {
        wasInstalled = true
        failingSince = nil
        if !report.changed.isEmpty { counts["SUCCESS", default: 0] += 1 }
      } else if failingSince == nil {
        failingSince = now
      }
      for result in Set(report.problems.filter(\.isFatal).map(\.metricResult)) { counts[result, default: 0] += 1 }
    }
  }

  /// Events come in bursts.
  private static let gathering = Duration.milliseconds(50)
  /// Between two repairs: somebody who always undoes ours must not keep the node busy.
  private static let rest = Duration.seconds(1)
  /// A look without being told to, in case an event was lost.
  private static let period = Duration.seconds(10)
  /// So many repairs in a row are no accident.
  private static let contested = 5

  public private(set) var state = State()

  private let installer: CNIInstaller
  private let loop: EventLoop
  private let threads: BlockingThreads
  private let logger: Logger
  private let metrics: AgentMetrics?
  private let changed: () -> Void
  private var watchers: [DirectoryWatcher] = []
  private var timer: LoopTimer?
  private var isLooking = false
  private var lookAgain = false
  private var isStopped = false
  private var lastRepair: ContinuousClock.Instant?
  private var repairsInARow = 0
  private var reported: [CNIInstallationError] = []
  private var whenIdle: CheckedContinuation<Void, Never>?

  /// `changed` is called on the loop when ``state`` may have changed.
  public init(
    _ settings: CNISettings, threads: BlockingThreads, logger: Logger, metrics: AgentMetrics? = nil,
    on loop: EventLoop, changed: @escaping () -> Void = {}
  ) {
    installer = CNIInstaller(settings: settings)
    self.threads = threads
    self.logger = logger
    self.loop = loop
    self.metrics = metrics
    self.changed = changed
  }

  public var isReady: Bool { state.isReady(at: .now) }

  /// Readiness ends with time, too: it is noted whenever somebody asks.
  func noteReadiness() { metrics?.installReady().set(isReady ? 1 : 0) }

  public func start() { look() }

  /// No more looks; nothing is removed.
  public func stop() async {
    isStopped = true
    timer?.cancel()
    for watcher in watchers { watcher.cancel() }
    watchers = []
    if isLooking { await withCheckedContinuation { whenIdle = $0 } }
  }

  /// Takes the plugin off the node, after ``stop()``.
  public func remove() async {
    let installer = installer
    guard let report = try? await threads.run({ installer.remove() }) else { return }
    for problem in report.problems { logger.error("\(problem)") }
    logger.info("the CNI plugin was removed", metadata: ["changed": "\(report.changed.joined(separator: ", "))"])
  }

  // MARK: Looking

  /// Watches what is at the paths now. Called before a look, so that what changes during it is noticed after it.
  private func watchAnew() {
    for watcher in watchers { watcher.cancel() }
    let settings = installer.settings
    let directories = [settings.configurationDirectory, settings.binaryDirectory, settings.runDirectory]
    watchers = (directories + [settings.credentials?.directory].compactMap { $0 }).compactMap { path in
      // What cannot be watched is looked at now and then; that it is missing is what the look reports.
      try? DirectoryWatcher(path, on: loop) { [weak self] events in self?.noticed(events) }
    }
  }

  private func noticed(_ events: [DirectoryEvent]) {
    guard events.contains(where: { !$0.name.contains(DurableFile.temporaryMark) }) else { return }
    if isLooking { lookAgain = true } else { schedule(after: nextDelay) }
  }

  private var nextDelay: Duration {
    guard let lastRepair else { return Self.gathering }
    return max(Self.gathering, ContinuousClock.now.duration(to: lastRepair + Self.rest))
  }

  private func schedule(after delay: Duration) {
    timer?.cancel()
    timer = loop.schedule(after: delay) { [weak self] in self?.look() }
  }

  private func look() {
    guard !isStopped, !isLooking else { return }
    isLooking = true
    lookAgain = false
    watchAnew()
    let installer = installer
    loop.spawn { [self] in
      let report = try? await threads.run { installer.install() }
      isLooking = false
      if let report { take(report) }
      whenIdle?.resume()
      whenIdle = nil
      if !isStopped { schedule(after: lookAgain ? nextDelay : Self.period) }
    }
  }

  private func take(_ report: CNIInstaller.Report) {
    let isFirst = !state.wasInstalled
    let before = state
    state.take(report, at: .now)
    for (result, count) in state.counts {
      metrics?.installs(result).add(UInt64(count - before.counts[result, default: 0]))
    }
    noteReadiness()
    for problem in report.problems where !reported.contains(problem) {
      logger.log(level: problem.isFatal ? .error : .warning, "\(problem)")
    }
    for problem in reported where !report.problems.contains(problem) {
      logger.notice("no longer so: \(problem.summary)")
    }
    reported = report.problems
    if !report.changed.isEmpty {
      let what = report.changed.joined(separator: ", ")
      logger.log(
        level: isFirst ? .info : .warning, isFirst ? "the CNI plugin is installed" : "the CNI plugin was repaired",
        metadata: ["changed": "\(what)", "configuration": "\(report.primary ?? "none")"])
      noteRepair(isFirst: isFirst)
    } else {
      repairsInARow = 0
    }
    if state != before { changed() }
  }

  private func noteRepair(isFirst: Bool) {
    lastRepair = .now
    repairsInARow = isFirst ? 0 : repairsInARow + 1
    guard repairsInARow == Self.contested else { return }
    logger.warning(
      "something else rewrites the CNI configuration all the time; pods that start in between are captured late",
      metadata: ["check": "other installers on the node, such as Cilium with cni.exclusive=true"])
  }
}
