import CLinux
import DequeModule
import Glibc
import Synchronization

/// One thread, one epoll, one run queue.
///
/// It is also a Swift task executor: what ``spawn(_:)`` starts runs on the loop's thread from beginning to end, so
/// top-down `async` code and plain callbacks share state without a lock. Objects made on a loop are not `Sendable`
/// and never leave it. Methods are for the loop's own thread unless they say otherwise.
public final class EventLoop: TaskExecutor, @unchecked Sendable {
  // @unchecked: `inbox` is locked; everything else is touched by the loop's thread only, after `start()`.
  public let name: String

  private struct Inbox {
    var jobs: [UnownedJob] = []
    var stopping = false
  }
  private let inbox = Mutex(Inbox())
  private let inboxFilled = Atomic<Bool>(false)
  private let progress = Atomic<UInt64>(0)

  private let epoll: Descriptor
  private let wakeup: Descriptor
  private var thread = pthread_t()
  private var jobs: Deque<UnownedJob> = []
  private var deferred: [() -> Void] = []
  private var watches: [Watch?] = []
  private var generations: [UInt32] = []
  private var freeSlots: [Int] = []
  private let timers = TimerQueue()

  /// Events taken from the kernel at once. Small enough to keep timers honest, large enough to amortise the call.
  private static let batch = 256
  /// Slot value of the wakeup descriptor, which is no watch.
  private static let wakeupSlot = UInt64(UInt32.max)

  /// The thread's name is `name`, cut to the kernel's 15 bytes. Throws ``SystemError``.
  public init(name: String) throws(SystemError) {
    self.name = name
    epoll = Descriptor(owning: try system("epoll_create1") { epoll_create1(CInt(EPOLL_CLOEXEC)) })
    wakeup = Descriptor(
      owning: try system("eventfd") { eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK)) })
    var event = epoll_event(events: EPOLLIN.rawValue, data: epoll_data_t(u64: Self.wakeupSlot))
    let (poller, waker) = (epoll.raw, wakeup.raw)
    try system("epoll_ctl") { epoll_ctl(poller, EPOLL_CTL_ADD, waker, &event) }
  }

  // MARK: Life

  /// Starts the thread. Call once. Throws ``SystemError`` when the system has no thread left.
  public func start() throws(SystemError) {
    let retained = Unmanaged.passRetained(self)
    let status = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        let loop = Unmanaged<EventLoop>.fromOpaque(argument).takeRetainedValue()
        loop.run()
        return nil
      }, retained.toOpaque())
    guard status == 0 else {
      retained.release()
      throw SystemError("pthread_create", status, subject: name)
    }
  }

  /// Makes the calling thread the loop's thread, instead of ``start()``, until ``stop()``.
  public func runHere() { run() }

  /// Asks the thread to end after its current round. From any thread. Tasks that still wait never resume.
  public func stop() {
    inbox.withLock { $0.stopping = true }
    wake()
  }

  /// Waits for the thread to end. From another thread, once, after ``stop()``.
  public func join() {
    pthread_join(thread, nil)
  }

  /// True on the loop's own thread. From any thread.
  public var isCurrent: Bool { pthread_equal(pthread_self(), thread) != 0 }

  /// Rounds made so far: a value that does not grow while work waits means a stuck worker. From any thread.
  public var rounds: UInt64 { progress.load(ordering: .relaxed) }

  // MARK: Tasks

  /// Runs `operation` on the loop's thread, suspended and resumed there. From any thread; but what `operation`
  /// captures must belong to this loop or be `Sendable`.
  public func spawn(_ operation: @escaping () async -> Void) {
    // The closure is handed to this loop's thread and runs nowhere else: that is the point of an executor preference.
    nonisolated(unsafe) let operation = operation
    // Without a priority it would be a user interface's, which the runtime's own threads ask the kernel for in vain.
    Task(executorPreference: self, priority: .medium) { await operation() }
  }

  /// The run-time's entry: queues a job. From any thread.
  public func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    if isCurrent {
      jobs.append(job)
    } else {
      inbox.withLock { $0.jobs.append(job) }
      wake()
    }
  }

  /// Calls `action` once in this round after the events at hand, so that one busy connection lets others go first.
  public func afterEvents(_ action: @escaping () -> Void) {
    deferred.append(action)
  }

  // MARK: Timers

  /// Calls `action` at `deadline` unless cancelled.
  public func schedule(at deadline: ContinuousClock.Instant, _ action: @escaping () -> Void) -> LoopTimer {
    timers.add(at: deadline, action)
  }

  /// Calls `action` after `delay` unless cancelled.
  public func schedule(after delay: Duration, _ action: @escaping () -> Void) -> LoopTimer {
    timers.add(at: .now + delay, action)
  }

  // MARK: Watches

  /// Reports events of a descriptor to `handler`. Throws ``SystemError``.
  public func watch(
    _ raw: CInt, for events: ReadyEvents, mode: WatchMode = .level, _ handler: @escaping (ReadyEvents) -> Void
  ) throws(SystemError) -> Watch {
    let slot = freeSlots.popLast() ?? watches.count
    if slot == watches.count {
      watches.append(nil)
      generations.append(0)
    }
    let watch = Watch(raw: raw, slot: slot, generation: generations[slot], loop: self, handler: handler)
    var flags = events
    switch mode {
    case .level: break
    case .edge: flags.insert(.edgeTriggered)
    case .shared: flags.insert(.exclusive)
    }
    do { try control(EPOLL_CTL_ADD, watch, flags) } catch {
      freeSlots.append(slot)
      throw error
    }
    watches[slot] = watch
    return watch
  }

  func modify(_ watch: Watch, _ events: ReadyEvents) throws(SystemError) {
    try control(EPOLL_CTL_MOD, watch, events)
  }

  func remove(_ watch: Watch, isClosing: Bool) {
    // Fails only when the descriptor was closed before its watch, which the kernel has then forgotten by itself.
    if !isClosing { try? control(EPOLL_CTL_DEL, watch, []) }
    watches[watch.slot] = nil
    generations[watch.slot] &+= 1
    freeSlots.append(watch.slot)
  }

  private func control(_ operation: CInt, _ watch: Watch, _ events: ReadyEvents) throws(SystemError) {
    let key = UInt64(watch.generation) << 32 | UInt64(watch.slot)
    var event = epoll_event(events: events.rawValue, data: epoll_data_t(u64: key))
    let poller = epoll.raw
    try system("epoll_ctl") { epoll_ctl(poller, operation, watch.raw, &event) }
  }

  // MARK: The thread

  private func wake() {
    // One write is enough until the loop has looked at its inbox again.
    guard !inboxFilled.exchange(true, ordering: .sequentiallyConsistent) else { return }
    var one: UInt64 = 1
    let raw = wakeup.raw
    // EAGAIN would mean that the counter is full, so that the loop wakes anyway.
    _ = write(raw, &one, MemoryLayout.size(ofValue: one))
  }

  private func run() {
    thread = pthread_self()
    ambient_name_thread(String(decoding: name.utf8.prefix(15), as: UTF8.self))
    withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: Self.batch) { events in
      while true {
        progress.wrappingAdd(1, ordering: .relaxed)
        if !takeInbox() { return }
        // What the last events resumed comes before the deferred actions, so that one of these flushes what all have
        // queued, and before the kernel is asked again, so that nothing of it costs a call that finds nothing new.
        runJobs()
        runDeferred()
        timers.fire(upTo: .now)
        let count = wait(events)
        for index in 0..<count { dispatch(events[index]) }
      }
    }
  }

  /// False when the loop is to end.
  private func takeInbox() -> Bool {
    guard inboxFilled.load(ordering: .acquiring) else { return true }
    // Before the inbox is emptied: a job that comes after this is announced anew, one that came before is taken below.
    inboxFilled.store(false, ordering: .sequentiallyConsistent)
    return inbox.withLock { inbox in
      jobs.append(contentsOf: inbox.jobs)
      inbox.jobs.removeAll(keepingCapacity: true)
      return !inbox.stopping
    }
  }

  private func runJobs() {
    // Only the jobs of this round: one that keeps resuming itself must not keep the loop from its sockets.
    for _ in 0..<jobs.count {
      guard let job = jobs.popFirst() else { return }
      job.runSynchronously(on: asUnownedTaskExecutor())
    }
  }

  private func runDeferred() {
    guard !deferred.isEmpty else { return }
    let actions = deferred
    deferred = []
    for action in actions { action() }
  }

  private func wait(_ events: UnsafeMutableBufferPointer<epoll_event>) -> Int {
    var timeout: CInt = -1
    if !jobs.isEmpty || !deferred.isEmpty {
      timeout = 0
    } else if let deadline = timers.nextDeadline {
      let left = ContinuousClock.now.duration(to: deadline)
      // Rounded up: waking early would spin until the deadline.
      let (seconds, attoseconds) = left.components
      let milliseconds = seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
      timeout = CInt(clamping: max(0, milliseconds))
    }
    guard let base = events.baseAddress else { return 0 }
    let count = epoll_wait(epoll.raw, base, CInt(events.count), timeout)
    precondition(count >= 0 || errno == EINTR, "epoll_wait failed: errno \(errno)")
    return Int(max(0, count))
  }

  private func dispatch(_ event: epoll_event) {
    let key = event.data.u64
    if key == Self.wakeupSlot {
      // Read where it is reported, not where the inbox is emptied: a writer raises the flag first and writes later,
      // so that its wakeup may come when its job has long been taken. Left unread it would be reported for ever.
      var counter: UInt64 = 0
      let raw = wakeup.raw
      _ = read(raw, &counter, MemoryLayout.size(ofValue: counter))
      return
    }
    let slot = Int(key & 0xffff_ffff)
    // A watch cancelled earlier in this batch may have been replaced by another in its slot.
    guard slot < watches.count, let watch = watches[slot], watch.generation == UInt32(key >> 32) else { return }
    watch.handler?(ReadyEvents(rawValue: event.events))
  }
}
