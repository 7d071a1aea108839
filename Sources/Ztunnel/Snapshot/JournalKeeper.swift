import Linux
import Synchronization
import XDS

/// Hands what the control plane says to the thread of snapshots, so that no disk delays a ping, a certificate or a change.
/// Safe to use from any thread.
final class JournalKeeper: ResponseKeeper, Sendable {
  private struct State {
    /// Calls that are not on the disk.
    var waiting = 0
    var waiters: [(limit: Int, continuation: UnsafeContinuation<Void, Never>)] = []
  }

  // Used on `thread` alone, where one job runs at a time.
  nonisolated(unsafe) private let journal: MeshJournal
  private let thread: BlockingThreads
  private let state = Mutex(State())

  /// `journal` is this object's from now on, and `thread` has no more than one thread.
  init(_ journal: sending MeshJournal, thread: BlockingThreads) {
    self.journal = journal
    self.thread = thread
  }

  func retain(_ portion: RetainedPortion) { perform { $0.retain(portion) } }
  func commit() { perform { $0.commit() } }
  func complete() { perform { $0.complete() } }
  func confirm() { perform { $0.confirm() } }

  /// Leaves the file to another process, or takes it back.
  func rest(_ isResting: Bool) { perform { $0.rest(isResting) } }

  func settle(leaving count: Int) async {
    await withUnsafeContinuation { continuation in
      let isSettled = state.withLock { state in
        guard state.waiting > count else { return true }
        state.waiters.append((count, continuation))
        return false
      }
      if isSettled { continuation.resume() }
    }
  }

  private func perform(_ body: @escaping @Sendable (MeshJournal) -> Void) {
    state.withLock { $0.waiting += 1 }
    let job: @Sendable () -> Void = { [self] in
      body(journal)
      finished()
      // Nobody waits for it but who comes next.
      journal.tidy()
    }
    thread.submit(job, orRefuse: job)
  }

  private func finished() {
    let settled = state.withLock { state in
      state.waiting -= 1
      let waiting = state.waiting
      let settled = state.waiters.filter { waiting <= $0.limit }
      state.waiters.removeAll { waiting <= $0.limit }
      return settled.map(\.continuation)
    }
    for continuation in settled { continuation.resume() }
  }
}
