public import HTTPServer
import Synchronization

/// What has to happen before the node agent is ready, by name. Safe from any thread.
public final class AgentReadiness: Sendable {
  private struct State {
    var pending: Set<String> = []
    var isStopping = false
  }

  private let state = Mutex(State())

  public init() {}

  /// Not ready until ``done(_:)`` is called for this task; may come back.
  public func require(_ task: String) { state.withLock { _ = $0.pending.insert(task) } }

  public func done(_ task: String) { state.withLock { _ = $0.pending.remove(task) } }

  /// The process leaves.
  public func stop() { state.withLock { $0.isStopping = true } }

  public var isReady: Bool { state.withLock { $0.pending.isEmpty && !$0.isStopping } }

  /// The answers of the health port (enrollment.md §10). `trouble` is why the process should be started anew.
  public func answer(_ request: HTTPRequest, trouble: String? = nil) -> HTTPResponse {
    let state = state.withLock { $0 }
    switch request.path {
    case "/healthz": return trouble.map { .text("\($0)\n", status: 503) } ?? .text("ok\n")
    case "/readyz" where state.isStopping: return .text("not ready, stopping\n", status: 503)
    case "/readyz" where !state.pending.isEmpty:
      return .text("not ready, pending: \(state.pending.sorted().joined(separator: ", "))\n", status: 503)
    case "/readyz": return .text("ready\n")
    default: return HTTPResponse(status: 404)
    }
  }
}
