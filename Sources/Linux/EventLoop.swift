import CLinux
import DequeModule
import Glibc
import Synchronization

/// One thread, one epoll, and the shares among which it divides its time.
///
/// Its shares are Swift task executors: what ``spawn(in:_:)`` starts runs on the loop's thread from beginning to end, so
/// top-down `async` code and plain callbacks share state without a lock. Objects made on a loop are not `Sendable`
/// and never leave it. Methods are for the loop's own thread unless they say otherwise.
///
/// A share with much to do is interrupted between two of its steps when its time is up and another has something to do:
/// one pod's flood then costs another pod a fraction of a millisecond, not the time that the flood takes.
public final class EventLoop: @unchecked Sendable {
  // @unchecked: `inbox` is locked; everything else is touched by the loop's thread only, after `start()`.
  public let name: String

  private struct Inbox {
    var jobs: [(job: UnownedJob, share: LoopShare)] = []
    var stopping = false
  }
  private let inbox = Mutex(Inbox())
  private let inboxFilled = Atomic<Bool>(false)
  private let progress = Atomic<UInt64>(0)

  private let epoll: Descriptor
  private let wakeup: Descriptor
  private var thread = pthread_t()
  /// The share of whatever belongs to nobody else.
  private var own: LoopShare?
  /// Whose turn it is; nil for `own`.
  private var current: LoopShare?
  /// Those that have something to do, in the order of their turns.
  private var active: Deque<LoopShare> = []
  /// Who was interrupted last, and still has something to do.
  private var interrupted: LoopShare?
  private var watches: [Watch?] = []
  private var generations: [UInt32] = []
  private var freeSlots: [Int] = []
  private let timers = TimerQueue()

  /// Nanoseconds after which the kernel is asked for news and another share has its turn. Long enough that asking costs
  /// nothing that could be measured.
  private static let turn: UInt64 = 200_000
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
    own = LoopShare(of: self)
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

  /// Runs `operation` on the loop's thread, suspended and resumed there; in `share`, or else in the share that has its turn.
  /// From any thread; but what `operation` captures must belong to this loop or be `Sendable`.
  public func spawn(in share: LoopShare? = nil, _ operation: @escaping () async -> Void) {
    // The closure is handed to this loop's thread and runs nowhere else: that is the point of an executor preference.
    nonisolated(unsafe) let operation = operation
    let share = share ?? (isCurrent ? current : nil) ?? own
    // Without a priority it would be a user interface's, which the runtime's own threads ask the kernel for in vain.
    Task(executorPreference: share, priority: .medium) {
      await operation()
      // The share does not keep its loop, so the task does.
      withExtendedLifetime(self) {}
    }
  }

  /// Calls `body` in `share`: what it starts belongs to that.
  public func within<Result, Failure>(
    _ share: LoopShare, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let previous = current
    current = share
    defer { current = previous }
    return try body()
  }

  /// What is done now is done in `share`.
  func isTurn(of share: LoopShare) -> Bool { current === share }

  /// Queues a job of a share. From any thread.
  func enqueue(_ job: UnownedJob, in share: LoopShare) {
    if isCurrent {
      share.append(job)
      activate(share)
    } else {
      inbox.withLock { $0.jobs.append((job, share)) }
      wake()
    }
  }

  /// Calls `action` once in this round after the events at hand, so that one busy connection lets others go first.
  public func afterEvents(_ action: @escaping () -> Void) {
    guard let share = current ?? own else { return }
    share.append(action)
    activate(share)
  }

  private func activate(_ share: LoopShare) {
    guard !share.isQueued else { return }
    share.isQueued = true
    active.append(share)
  }

  // MARK: Timers

  /// Calls `action` at `deadline` unless cancelled.
  public func schedule(at deadline: ContinuousClock.Instant, _ action: @escaping () -> Void) -> LoopTimer {
    timers.add(at: deadline, in: current, action)
  }

  /// Calls `action` after `delay` unless cancelled.
  public func schedule(after delay: Duration, _ action: @escaping () -> Void) -> LoopTimer {
    timers.add(at: .now + delay, in: current, action)
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
    let watch = Watch(
      raw: raw, slot: slot, generation: generations[slot], loop: self, share: current, handler: handler)
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
        let now = ContinuousClock.now
        timers.fire(upTo: now) { current = $0 }
        current = nil
        let count = wait(events, since: now)
        for index in 0..<count { note(events[index]) }
        if let share = interrupted {
          interrupted = nil
          active.append(share)
        }
        runShares(until: MonotonicTime.now + Self.turn)
      }
    }
  }

  /// False when the loop is to end.
  private func takeInbox() -> Bool {
    guard inboxFilled.load(ordering: .acquiring) else { return true }
    // Before the inbox is emptied: a job that comes after this is announced anew, one that came before is taken below.
    inboxFilled.store(false, ordering: .sequentiallyConsistent)
    return inbox.withLock { inbox in
      for (job, share) in inbox.jobs {
        share.append(job)
        activate(share)
      }
      inbox.jobs.removeAll(keepingCapacity: true)
      return !inbox.stopping
    }
  }

  /// Gives each share that has something to do its turn, round and round, until all have done or the time is up. Who is
  /// interrupted goes on after those that the kernel has news for.
  private func runShares(until deadline: UInt64) {
    while let share = active.popFirst() {
      current = share
      share.run(until: deadline)
      current = nil
      let isTimeUp = MonotonicTime.now >= deadline
      if !share.hasWork {
        share.isQueued = false
      } else if isTimeUp {
        interrupted = share
      } else {
        active.append(share)
      }
      if isTimeUp { return }
    }
  }

  /// Asks the kernel for events. Waits for them where there is nothing else to do.
  private func wait(
    _ events: UnsafeMutableBufferPointer<epoll_event>, since now: ContinuousClock.Instant
  ) -> Int {
    var timeout: CInt = -1
    if !active.isEmpty || interrupted != nil {
      timeout = 0
    } else if let deadline = timers.nextDeadline {
      // Rounded up: waking early would spin until the deadline.
      let (seconds, attoseconds) = now.duration(to: deadline).components
      let milliseconds = seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
      timeout = CInt(clamping: max(0, milliseconds))
    }
    guard let base = events.baseAddress else { return 0 }
    let count = epoll_wait(epoll.raw, base, CInt(events.count), timeout)
    precondition(count >= 0 || errno == EINTR, "epoll_wait failed: errno \(errno)")
    return Int(max(0, count))
  }

  /// Queues what the kernel has reported for the share whose watch it is.
  private func note(_ event: epoll_event) {
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
    // A watch cancelled since may have been replaced by another in its slot.
    guard slot < watches.count, let watch = watches[slot], watch.generation == UInt32(key >> 32) else { return }
    guard watch.note(ReadyEvents(rawValue: event.events)), let share = watch.share ?? own else { return }
    share.append(watch)
    activate(share)
  }
}
