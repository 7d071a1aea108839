import CLinux
import Glibc
import Linux
import Synchronization

/// The queue and the thread behind a ``LogWriter``. The thread holds the core, not the writer, so that dropping the last
/// writer ends the thread after it has written what was queued.
final class LogWriterCore: Sendable {
  /// Lines handed to the kernel at once (observability.md §1).
  private static let linesPerWrite = 64
  /// Rest after a write, in milliseconds, in which lines gather. A line that follows a quiet time is written at once;
  /// under load the thread, and who would have to wake it, are spared a switch for each line.
  private static let gathering: CInt = 3

  private struct State {
    var waiting: [[UInt8]] = []
    var waitingBytes = 0
    var unreportedDrops: UInt64 = 0
    var isSleeping = false
    var isStopping = false
    var heldLines = 0
    var heldBytes = 0
    var counts = LogWriter.Counts()
  }

  /// Nil for the journal.
  private let output: SharedDescriptor?
  private let wakeup: SharedDescriptor
  private let limits: LogWriter.Limits
  private let describeDrops: @Sendable (UInt64) -> [UInt8]
  private let state = Mutex(State())

  init(
    output: SharedDescriptor?, wakeup: SharedDescriptor, limits: LogWriter.Limits,
    describeDrops: @escaping @Sendable (UInt64) -> [UInt8]
  ) {
    self.output = output
    self.wakeup = wakeup
    self.limits = limits
    self.describeDrops = describeDrops
  }

  var counts: LogWriter.Counts { state.withLock { $0.counts } }

  func enqueue(_ line: [UInt8]) -> Bool {
    let (accepted, mustWake) = state.withLock { state in
      guard !state.isStopping, state.heldLines < limits.lines, state.heldBytes + line.count <= limits.bytes else {
        state.counts.dropped += 1
        state.counts.latestDrop = .now
        state.unreportedDrops += 1
        return (false, false)
      }
      state.waiting.append(line)
      state.heldLines += 1
      state.heldBytes += line.count
      state.counts.accepted += 1
      defer { state.isSleeping = false }
      return (true, state.isSleeping)
    }
    if mustWake { wake() }
    return accepted
  }

  func stop() {
    let mustWake = state.withLock { state in
      state.isStopping = true
      defer { state.isSleeping = false }
      return state.isSleeping
    }
    if mustWake { wake() }
  }

  func start() throws(SystemError) {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(self)
    let result = pthread_create(&thread, nil, logWriterThread, context.toOpaque())
    guard result == 0 else {
      context.release()
      throw SystemError("pthread_create", result, subject: "the log writer")
    }
    pthread_detach(thread)
  }

  fileprivate func run() {
    // Signals belong to the thread that waits for them; SIGPIPE must come back as an error instead.
    var every = sigset_t()
    sigfillset(&every)
    pthread_sigmask(SIG_BLOCK, &every, nil)
    nameThread()
    while let (lines, drops) = next() {
      var index = 0
      while index < lines.count {
        let end = min(index + Self.linesPerWrite, lines.count)
        let written = writeAll(lines[index..<end])
        finish(lines[index..<end], written: written)
        index = end
      }
      if drops > 0 { _ = writeAll([describeDrops(drops)][...]) }
      if !state.withLock({ $0.isStopping }) { _ = poll(nil, 0, Self.gathering) }
    }
  }

  /// Names the thread for `top -H` and debuggers; a kernel without the file leaves it unnamed.
  private func nameThread() {
    guard let file = try? Descriptor.open("/proc/thread-self/comm", O_WRONLY) else { return }
    _ = Array("log-writer".utf8).withUnsafeBytes { Glibc.write(file.raw, $0.baseAddress, $0.count) }
  }

  /// The lines waiting and the drops not yet reported; sleeps while there are none. Nil once stopped and empty.
  private func next() -> (lines: [[UInt8]], drops: UInt64)? {
    while true {
      let (batch, isOver): ((lines: [[UInt8]], drops: UInt64)?, Bool) = state.withLock { state in
        if state.waiting.isEmpty, state.unreportedDrops == 0 {
          state.isSleeping = !state.isStopping
          return (nil, state.isStopping)
        }
        defer {
          state.waiting = []
          state.unreportedDrops = 0
        }
        return ((state.waiting, state.unreportedDrops), false)
      }
      if let batch { return batch }
      if isOver { return nil }
      var count: UInt64 = 0
      _ = read(wakeup.raw, &count, MemoryLayout.size(ofValue: count))
    }
  }

  private func wake() {
    var one: UInt64 = 1
    _ = Glibc.write(wakeup.raw, &one, MemoryLayout.size(ofValue: one))
  }

  private func finish(_ lines: ArraySlice<[UInt8]>, written: Bool) {
    let bytes = lines.reduce(0) { $0 + $1.count }
    state.withLock { state in
      state.heldLines -= lines.count
      state.heldBytes -= bytes
      state.counts.finished += UInt64(lines.count)
      if !written { state.counts.failed += UInt64(lines.count) }
    }
  }

  /// Writes lines in order and whole, waiting for a slow reader. False when the output is gone.
  private func writeAll(_ lines: ArraySlice<[UInt8]>) -> Bool {
    guard let output else { return lines.reduce(true) { JournalEntry.send($1) && $0 } }
    // One contiguous copy: lines are short, and it spares keeping 64 arrays pinned for an iovec table.
    var bytes: [UInt8] = []
    bytes.reserveCapacity(lines.reduce(0) { $0 + $1.count })
    for line in lines { bytes.append(contentsOf: line) }
    var offset = 0
    while offset < bytes.count {
      let rest = bytes[offset...]
      do {
        offset += try system("write", "the log") {
          rest.withUnsafeBytes { Glibc.write(output.raw, $0.baseAddress, $0.count) }
        }
      } catch {
        guard error.number == EAGAIN else { return false }
        var readiness = pollfd(fd: output.raw, events: Int16(POLLOUT), revents: 0)
        _ = poll(&readiness, 1, 1000)
      }
    }
    return true
  }
}

/// The thread's entry: takes back the reference ``LogWriterCore/start()`` gave it.
private func logWriterThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  if let context { Unmanaged<LogWriterCore>.fromOpaque(context).takeRetainedValue().run() }
  return nil
}
