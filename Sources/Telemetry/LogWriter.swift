import CLinux
import Glibc
public import Linux

/// Writes log lines on a thread of its own, so that a slow reader of the log never holds up a connection.
///
/// ``write(_:)`` copies a reference into a bounded queue and returns. When the queue is full the line is dropped and
/// counted, and the next successful write is followed by a line that says how many were lost: the reference
/// implementation blocks its data path there (observability.md, limit 1). Safe from any thread.
public final class LogWriter: Sendable {
  /// What bounds the queue.
  public struct Limits: Hashable, Sendable {
    /// Most lines waiting or being written.
    public var lines: Int
    /// Most bytes in those lines.
    public var bytes: Int

    public init(lines: Int = 10_000, bytes: Int = 16 << 20) {
      self.lines = lines
      self.bytes = bytes
    }
  }

  /// What has happened so far.
  public struct Counts: Hashable, Sendable {
    /// Lines accepted into the queue.
    public internal(set) var accepted: UInt64 = 0
    /// Accepted lines that are done with: written, or given up because the output failed.
    public internal(set) var finished: UInt64 = 0
    /// Lines refused because the queue was full.
    public internal(set) var dropped: UInt64 = 0
    /// When the latest line was refused; nil where none was.
    public internal(set) var latestDrop: ContinuousClock.Instant?
    /// Accepted lines that could not be written because the output failed.
    public internal(set) var failed: UInt64 = 0
  }

  private let core: LogWriterCore

  /// Starts the writing thread, to a descriptor or, without one, to systemd's journal. `describeDrops` makes the line that reports how many lines were lost.
  ///
  /// Throws ``SystemError`` when the wake-up descriptor or the thread cannot be made.
  public init(
    _ output: SharedDescriptor?, limits: Limits = Limits(),
    describeDrops: @escaping @Sendable (UInt64) -> [UInt8]
  ) throws(SystemError) {
    let wakeup = try system("eventfd") { eventfd(0, CInt(EFD_CLOEXEC)) }
    core = LogWriterCore(
      output: output, wakeup: SharedDescriptor(Descriptor(owning: wakeup)), limits: limits,
      describeDrops: describeDrops)
    try core.start()
  }

  /// A writer to a copy of file descriptor 1, or to the journal where that is the format. Throws ``SystemError``.
  public static func standardOutput(format: LogFormat, limits: Limits = Limits()) throws(SystemError) -> LogWriter {
    if format == .journal {
      return try LogWriter(nil, limits: limits) { droppedLinesNotice($0, format: format, time: .now) }
    }
    let copy = try system("fcntl", "standard output") { ambient_fcntl_int(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0) }
    return try LogWriter(SharedDescriptor(Descriptor(owning: copy)), limits: limits) { count in
      droppedLinesNotice(count, format: format, time: .now)
    }
  }

  deinit { core.stop() }

  /// Queues one whole line, newline included. Never blocks on the output. Returns false when the line was dropped.
  @discardableResult
  public func write(_ line: [UInt8]) -> Bool { core.enqueue(line) }

  public var counts: Counts { core.counts }

  /// Waits until every line accepted before the call is done with, at most `limit`. Returns whether it got there.
  ///
  /// Meant for the end of the process: it sleeps in steps of a millisecond rather than make every write pay for a signal.
  @discardableResult
  public func flush(atMost limit: Duration = .seconds(1)) -> Bool {
    let goal = counts.accepted
    let deadline = ContinuousClock.now + limit
    while counts.finished < goal {
      if ContinuousClock.now >= deadline { return false }
      usleep(1000)
    }
    return true
  }
}

/// The line that reports lost lines.
public func droppedLinesNotice(_ count: UInt64, format: LogFormat, time: LogTimestamp) -> [UInt8] {
  var line = LogLine(
    format, time: time, level: .warn, scope: "log",
    message: "log lines dropped because the reader of the log was too slow")
  line.field("dropped", integer: count)
  return line.finish()
}
