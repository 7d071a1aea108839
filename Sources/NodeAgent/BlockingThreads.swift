import Glibc
import Linux
import Synchronization

/// A bounded set of threads for work that blocks: reading files, taking the iptables lock, committing tables.
///
/// Threads are made when needed and stay. Safe to use from anywhere.
public final class BlockingThreads: Sendable {
  private struct State {
    var jobs: [@Sendable () -> Void] = []
    var threads = 0
    var idle = 0
  }

  private let limit: Int
  private let state = Mutex(State())
  private let wake = Semaphore()

  public init(limit: Int) {
    self.limit = max(1, limit)
  }

  /// Runs `body` on one of the threads. Rethrows what it throws.
  public func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
      submit { continuation.resume(with: Result(catching: body)) }
    }
  }

  private func submit(_ job: @escaping @Sendable () -> Void) {
    let needsThread = state.withLock { state in
      state.jobs.append(job)
      guard state.jobs.count > state.idle, state.threads < limit else { return false }
      state.threads += 1
      return true
    }
    if needsThread, !startThread() {
      // The system has no thread left. One that exists takes the job; without any, it runs here, late but not lost.
      let alone = state.withLock { state in
        state.threads -= 1
        return state.threads == 0
      }
      if alone { takeOne() }
    }
    wake.signal()
  }

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
      state.withLock { $0.idle += 1 }
      wake.wait()
      state.withLock { $0.idle -= 1 }
      takeOne()
    }
  }

  private func takeOne() {
    let job = state.withLock { $0.jobs.isEmpty ? nil : $0.jobs.removeFirst() }
    job?()
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
