import Linux
import Synchronization
import Vocabulary

/// Finds addresses for workloads that have only a host name (services.md §5.1): one question at a time for each name,
/// answered to all who wait for it, and remembered. Shared by all workers.
final class NameService: Sendable {
  private typealias Waiter = @Sendable (Resolution) -> Void

  private struct State {
    var cache: NameCache
    /// Names being looked up, with who waits for each; perhaps nobody any more.
    var waiting: [String: [UInt64: Waiter]] = [:]
    var lastWaiter: UInt64 = 0
  }

  private let resolver: any HostnameResolver
  private let state: Mutex<State>

  /// Time a connection waits for an answer.
  static let limit = Duration.seconds(5)

  init(_ resolver: any HostnameResolver, cache: NameCache = NameCache()) {
    self.resolver = resolver
    state = Mutex(State(cache: cache))
  }

  /// The addresses of `hostname`, at least one. Called in a task of `loop`, which stays there. Throws
  /// ``ResolutionError``.
  func addresses(of hostname: String, on loop: EventLoop, within limit: Duration = limit)
    async throws(ResolutionError) -> [IPAddress]
  {
    let name = hostname.lowercased()
    switch state.withLock({ $0.cache.answer(for: name, at: .now) }) {
    case .known(let addresses): return addresses
    case .failed(let error): throw error
    case .mustAsk: break
    }
    var timer: LoopTimer?
    let resolution = await withUnsafeContinuation { (continuation: UnsafeContinuation<Resolution, Never>) in
      let (key, isFirst) = state.withLock { state in
        state.lastWaiter += 1
        let isFirst = state.waiting[name] == nil
        state.waiting[name, default: [:]][state.lastWaiter] = { continuation.resume(returning: $0) }
        return (state.lastWaiter, isFirst)
      }
      timer = loop.schedule(after: limit) { [self] in
        let waiter = state.withLock { $0.waiting[name]?.removeValue(forKey: key) }
        waiter?(.failure(.timeout(seconds: limit.components.seconds)))
      }
      if isFirst { resolver.lookUp(hostname) { [self] in finish(name, $0) } }
    }
    timer?.cancel()
    return try resolution.get()
  }

  private func finish(_ name: String, _ resolution: Resolution) {
    let (outcome, waiters) = state.withLock { state in
      (state.cache.store(resolution, for: name, at: .now), state.waiting.removeValue(forKey: name) ?? [:])
    }
    for waiter in waiters.values { waiter(outcome) }
  }
}
