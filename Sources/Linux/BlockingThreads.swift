import Glibc
import Synchronization

/// A bounded set of threads for work that blocks: reading files, taking a lock, asking a name server.
///
/// Threads are made when needed and stay. Safe to use from anywhere.
public final class BlockingThreads: Sendable {
  private struct Job {
    let perform: @Sendable () -> Void
    let refuse: @Sendable () -> Void
  }

  private struct State {
    var jobs: [Job] = []
    var threads = 0
    var idle = 0
    /// When a thread last took a job or ended one.
    var progress = ContinuousClock.now
  }

  private let limit: Int
  private let mostWaiting: Int
  private let state = Mutex(State())
  private let wake = Semaphore()

  /// `limit` bounds the threads, `mostWaiting` the jobs that wait for one.
  public init(limit: Int, mostWaiting: Int = .max) {
    self.limit = max(1, limit)
    self.mostWaiting = mostWaiting
  }

  /// Runs `body` on one of the threads; on the caller's, late but not lost, when the system has none left. Rethrows what
  /// it throws.
  public func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
      let job: @Sendable () -> Void = { continuation.resume(with: Result(catching: body)) }
      submit(job, orRefuse: job)
    }
  }

  /// Has a thread call `perform` some time from now; or calls `refuse`, when too many jobs wait already or the system
  /// has no thread. Never both.
  public func submit(_ perform: @escaping @Sendable () -> Void, orRefuse refuse: @escaping @Sendable () -> Void) {
    let (isTaken, needsThread) = state.withLock { state in
      guard state.jobs.count < mostWaiting else { return (false, false) }
      state.jobs.append(Job(perform: perform, refuse: refuse))
      guard state.jobs.count > state.idle, state.threads < limit else { return (true, false) }
      state.threads += 1
      return (true, true)
    }
    guard isTaken else { return refuse() }
    if needsThread, !startThread() {
      // A thread that exists takes the job; without any, nobody would.
      let orphans = state.withLock { state in
        state.threads -= 1
        guard state.threads == 0 else { return [Job]() }
        defer { state.jobs = [] }
        return state.jobs
      }
      for job in orphans { job.refuse() }
    }
    wake.signal()
  }

  /// For how long jobs have waited without any thread ending or taking one; nil while nobody has to wait.
  public func stall(at now: ContinuousClock.Instant = .now) -> Duration? {
    state.withLock { state in
      guard !state.jobs.isEmpty, state.threads == limit, state.idle == 0 else { return nil }
      return state.progress.duration(to: now)
    }
  }

  /// Waits on the caller's thread until all that was submitted is done, or `limit` is over. True where it is done.
  public func drain(within limit: Duration) -> Bool {
    let deadline = ContinuousClock.now + limit
    while true {
      if state.withLock({ $0.jobs.isEmpty && $0.idle == $0.threads }) { return true }
      guard ContinuousClock.now < deadline else { return false }
      usleep(Self.look)
    }
  }

  /// Microseconds between two looks at whether all is done.
  private static let look: useconds_t = 5_000

  private func startThread() -> Bool {
    var thread = pthread_t()
    let retained = Unmanaged.passRetained(self)
    let status = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        Unmanaged<BlockingThreads>.fromOpaque(argument).takeRetainedValue().work()
        return nil
      }, retained.toOpaque())
    guard status == 0 else {
      retained.release()
      return false
    }
    pthread_detach(thread)
    return true
  }

  private func work() {
    while true {
      state.withLock { state in
        state.idle += 1
        state.progress = .now
      }
      wake.wait()
      let job = state.withLock { state in
        state.idle -= 1
        state.progress = .now
        return state.jobs.isEmpty ? nil : state.jobs.removeFirst()
      }
      job?.perform()
    }
  }
}

/// A POSIX semaphore at a fixed address.
private final class Semaphore: @unchecked Sendable {
  // @unchecked: sem_t is made to be shared between threads; the pointer never changes.
  private let storage = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

  init() { sem_init(storage, 0, 0) }
  deinit {
    sem_destroy(storage)
    storage.deallocate()
  }

  func signal() { sem_post(storage) }
  func wait() { while sem_wait(storage) != 0 && errno == EINTR {} }
}
