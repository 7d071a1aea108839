/// Whether the plugin stays on the node when the agent ends (enrollment.md §7).
///
/// Kept, it refuses pods of the mesh until the next agent answers, so that none starts uncaptured during an upgrade.
/// Kept for nobody, it would refuse pods for ever.
public enum DepartureDecision: Equatable, Sendable {
  case keep(reason: String)
  case clean(reason: String)

  /// What the API server says about the DaemonSet that this agent belongs to.
  public enum DaemonSet: Equatable, Sendable {
    /// `isOurs`: its pods still run this agent, and not Istio's under the same name; `matchesNode`: it still wants a pod
    /// on this node.
    case present(isOurs: Bool, isBeingDeleted: Bool, matchesNode: Bool)
    case absent
    /// We are not allowed to ask any more: our service account is gone, and the DaemonSet with it.
    case forbidden
    /// There was no answer, and why.
    case unknown(String)
  }

  /// `daemonSet` is nil for an agent that runs without Kubernetes.
  public static func decide(alwaysCleansUp: Bool, daemonSet: DaemonSet?) -> DepartureDecision {
    if alwaysCleansUp { return .clean(reason: "AMBIENT_DISABLE_SAFE_UPGRADE is set") }
    switch daemonSet {
    case .present(_, isBeingDeleted: true, _): return .clean(reason: "the DaemonSet is being deleted")
    case .present(isOurs: false, _, _): return .clean(reason: "the DaemonSet runs another agent now")
    case .present(_, _, matchesNode: false): return .clean(reason: "the DaemonSet does not want this node any more")
    case .present: return .keep(reason: "the DaemonSet will start the next agent")
    case .absent: return .clean(reason: "the DaemonSet is gone")
    case .forbidden: return .clean(reason: "the service account is gone")
    // An API server that is away is most likely a node or a cluster that is being upgraded: failing closed is right then,
    // and an agent that comes back puts everything right. The reference cleans up here and lets pods start uncaptured.
    case .unknown(let reason): return .keep(reason: "the API server does not answer: \(reason)")
    case nil: return .keep(reason: "the service manager will start the next agent")
    }
  }
}
