import Glibc
import Vocabulary

/// A wait that ended without what it waited for.
public enum WaitError: CodedError, Equatable {
  case deadlineExceeded
  case system(SystemError)

  public var code: String {
    switch self {
    case .deadlineExceeded: "DEADLINE_EXCEEDED"
    case .system(let error): error.code
    }
  }

  public var summary: String {
    switch self {
    case .deadlineExceeded: "nothing happened before the deadline"
    case .system(let error): error.summary
    }
  }
}

extension EventLoop {
  /// Suspends until `raw` can be read (data, end of file or an error). One waiter a descriptor at a time.
  ///
  /// Call it from a task of this loop. Throws ``WaitError``: `.deadlineExceeded` at `deadline`, nil waits for ever.
  public func readable(_ raw: CInt, until deadline: ContinuousClock.Instant? = nil) async throws(WaitError) {
    try await ready(raw, for: [.readable, .peerClosed], until: deadline)
  }

  /// Suspends until `raw` can be written, or failed. Otherwise as ``readable(_:until:)``.
  public func writable(_ raw: CInt, until deadline: ContinuousClock.Instant? = nil) async throws(WaitError) {
    try await ready(raw, for: .writable, until: deadline)
  }

  /// Suspends the calling task of this loop for `duration`.
  public func sleep(for duration: Duration) async {
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
      _ = schedule(after: duration) { continuation.resume() }
    }
  }

  /// Suspends the calling task of this loop until what waits in the loop has had its turn; sockets and timers are looked at
  /// in between where the task has run for long. Unlike `Task.yield()` it involves no other thread.
  public func letOthersRun() async {
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
      afterEvents { continuation.resume() }
    }
  }

  private func ready(_ raw: CInt, for events: ReadyEvents, until deadline: ContinuousClock.Instant?)
    async throws(WaitError)
  {
    let outcome = await withUnsafeContinuation { (continuation: UnsafeContinuation<WaitError?, Never>) in
      let waiter = OneShot(continuation)
      do throws(SystemError) {
        waiter.watch = try watch(raw, for: events) { _ in waiter.finish(nil) }
      } catch {
        waiter.finish(.system(error))
        return
      }
      if let deadline {
        waiter.timer = schedule(at: deadline) { waiter.finish(.deadlineExceeded) }
      }
    }
    if let outcome { throw outcome }
  }

  private final class OneShot {
    var watch: Watch?
    var timer: LoopTimer?
    private var continuation: UnsafeContinuation<WaitError?, Never>?

    init(_ continuation: UnsafeContinuation<WaitError?, Never>) { self.continuation = continuation }

    func finish(_ outcome: WaitError?) {
      watch?.cancel()
      timer?.cancel()
      watch = nil
      timer = nil
      continuation?.resume(returning: outcome)
      continuation = nil
    }
  }
}
