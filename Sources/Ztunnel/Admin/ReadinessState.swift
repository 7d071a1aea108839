import HTTPServer
import Synchronization

/// What has to happen before the proxy is ready, by name (lifecycle.md §3). Safe from any thread.
///
/// Once ready it stays ready until it drains: pods go on being served while the node agent or the control plane is away,
/// and a pod that cannot be served is named, but holds nobody else up (lifecycle.md limits 5 and 6).
final class ReadinessState: Sendable {
  static let mesh = "state manager"
  static let pods = "workload proxy manager"
  static let proxy = "proxy"

  private struct State {
    var pending: Set<String> = []
    var isDraining = false
    var troubledPods: [String] = []
  }

  private let state: Mutex<State>

  init(pending: Set<String>) { state = Mutex(State(pending: pending)) }

  func done(_ task: String) { state.withLock { _ = $0.pending.remove(task) } }

  /// The process leaves: not ready, but answering.
  func drain() { state.withLock { $0.isDraining = true } }

  /// The pods that cannot be served for now.
  func setTroubled(_ pods: [String]) { state.withLock { $0.troubledPods = pods } }

  var isReady: Bool { state.withLock { $0.pending.isEmpty && !$0.isDraining } }
  var pending: [String] { state.withLock { $0.pending.sorted() } }
  var isDraining: Bool { state.withLock { $0.isDraining } }

  /// One line for the service manager: what `/healthz/ready` says, and what else is not as it should be.
  func summary(_ conditions: NodeConditions.Values) -> String {
    let state = state.withLock { $0 }
    if state.isDraining { return "draining" }
    guard state.pending.isEmpty else { return "not ready, pending: \(state.pending.sorted().joined(separator: ", "))" }
    var parts = ["ready"]
    if !conditions.isAgentConnected { parts.append("the node agent is away: pods are served, none can come or go") }
    if !state.troubledPods.isEmpty {
      parts.append("pods that cannot be served yet: \(state.troubledPods.joined(separator: ", "))")
    }
    return parts.joined(separator: "; ")
  }

  /// The answer of `/healthz/ready`.
  func answer(_ request: HTTPRequest) -> HTTPResponse {
    guard request.method == "GET" || request.method == "HEAD" else { return .methodNotAllowed(allow: "GET") }
    let state = state.withLock { $0 }
    if state.isDraining { return .text("not ready, draining\n", status: 500) }
    guard state.pending.isEmpty else {
      return .text("not ready, pending: \(state.pending.sorted().joined(separator: ", "))\n", status: 500)
    }
    guard !state.troubledPods.isEmpty else { return .text("ready\n") }
    return .text("ready\npods that cannot be served yet: \(state.troubledPods.joined(separator: ", "))\n")
  }
}
