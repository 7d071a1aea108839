import Glibc
import Linux
import Logging

/// Watches a directory of workload files and reports the complete list of what is wanted whenever it changes.
///
/// Inotify says when to look; what is there is always read anew, so a lost event costs at most one ``rescan``.
/// Belongs to its event loop.
final class DirectorySource: WorkloadSource {
  private let loop: EventLoop
  private let threads: BlockingThreads
  private let logger: Logger
  private let rescan: Duration
  private let report: ([DesiredWorkload]) -> Void
  private var directory: WorkloadDirectory
  private var watcher: DirectoryWatcher?
  private var reportedTrouble: SystemError?
  private var timer: LoopTimer?
  private var isScanning = false
  private var scanAgain = false
  private var reported: [DesiredWorkload]?
  private var stopped = false

  /// Events come in bursts: one save of an editor is half a dozen.
  private static let gathering: Duration = .milliseconds(20)

  /// `report` is called on the loop; never before the whole directory could be read once.
  init(
    _ directory: WorkloadDirectory, rescan: Duration = .seconds(10), threads: BlockingThreads, logger: Logger,
    on loop: EventLoop, report: @escaping ([DesiredWorkload]) -> Void
  ) {
    self.directory = directory
    self.rescan = rescan
    self.threads = threads
    self.logger = logger
    self.loop = loop
    self.report = report
  }

  func start() {
    scan()
  }

  func stop() {
    stopped = true
    watcher?.cancel()
    timer?.cancel()
  }

  /// Reads the directory now, without waiting for an event.
  func reread() { scan() }

  /// Watches what is at the path now: it may be another directory than at the last scan. Called before a scan, so that
  /// what changes during it is noticed after it.
  private func watchAnew() {
    watcher?.cancel()
    watcher = nil
    do throws(SystemError) {
      // What the events say does not matter: the directory is read anew.
      watcher = try DirectoryWatcher(directory.path, on: loop) { [weak self] _ in self?.noticed() }
      reportedTrouble = nil
    } catch {
      // A directory that is missing is what the scan reports.
      guard error.number != ENOENT, error != reportedTrouble else { return }
      reportedTrouble = error
      logger.warning(
        "the directory cannot be watched, changes are noticed late",
        metadata: ["path": "\(directory.path)", "error": "\(error)", "looked_at_every": "\(rescan)"])
    }
  }

  private func noticed() {
    // The end of a scan sets the timer anew: one set now would be lost, and with it what the scan has not seen.
    if isScanning { scanAgain = true } else { schedule(after: Self.gathering) }
  }

  private func schedule(after delay: Duration) {
    timer?.cancel()
    timer = loop.schedule(after: delay) { [weak self] in self?.scan() }
  }

  private func scan() {
    guard !stopped else { return }
    guard !isScanning else {
      scanAgain = true
      return
    }
    isScanning = true
    timer?.cancel()
    watchAnew()
    let before = directory
    loop.spawn { [self] in
      let outcome = try? await threads.run {
        var directory = before
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let report = directory.scan(now: Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec))
        return (directory, report)
      }
      isScanning = false
      guard let (directory, report) = outcome, !stopped else { return }
      take(directory, report)
    }
  }

  private func take(_ scanned: WorkloadDirectory, _ report: WorkloadDirectory.Report) {
    directory = scanned
    for problem in report.newProblems { logger.error("\(problem)") }
    for corrected in report.corrected { logger.notice("corrected: \(corrected)") }
    if directory.isComplete, reported != directory.workloads {
      reported = directory.workloads
      logger.info("workloads read", metadata: ["count": "\(directory.workloads.count)", "path": "\(directory.path)"])
      self.report(directory.workloads)
    }
    if report.unsettled {
      schedule(after: WorkloadDirectory.settling)
    } else {
      schedule(after: scanAgain ? Self.gathering : rescan)
    }
    scanAgain = false
  }
}
