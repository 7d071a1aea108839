import Linux
import Synchronization

/// Asks all workers something, without waiting for ever: a stalled worker must not stall those who look at it.
struct WorkerQuestions: Sendable {
  let workers: [WorkerHandle]
  /// The loop that waits.
  let loop: EventLoop

  /// Time a worker has for its answer.
  static let limit = Duration.seconds(2)

  /// The answers that came in time.
  func ask<Value: Sendable>(_ question: @escaping @Sendable (Worker) async -> Value) async -> [Value] {
    let gathering = Gathering<Value>(missing: workers.count)
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      gathering.wait(continuation)
      for worker in workers {
        worker.postTask { gathering.add(await question($0)) }
      }
      loop.spawn {
        await loop.sleep(for: Self.limit)
        gathering.end()
      }
    }
    return gathering.values
  }

  private final class Gathering<Value: Sendable>: Sendable {
    private struct State {
      var values: [Value] = []
      var missing: Int
      var continuation: CheckedContinuation<Void, Never>?
    }

    private let state: Mutex<State>

    init(missing: Int) { state = Mutex(State(missing: missing)) }

    var values: [Value] { state.withLock { $0.values } }

    func wait(_ continuation: CheckedContinuation<Void, Never>) {
      let isDone = state.withLock { state in
        if state.missing == 0 { return true }
        state.continuation = continuation
        return false
      }
      if isDone { continuation.resume() }
    }

    func add(_ value: Value) {
      let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
        state.values.append(value)
        state.missing -= 1
        guard state.missing == 0 else { return nil }
        defer { state.continuation = nil }
        return state.continuation
      }
      waiter?.resume()
    }

    func end() {
      let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
        defer { state.continuation = nil }
        return state.continuation
      }
      waiter?.resume()
    }
  }
}
