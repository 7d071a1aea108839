import Kubernetes

/// Which pods of a node belong to the mesh (enrollment.md §2). Decides by labels and by what the pod is, never by what
/// somebody wrote about its state.
public struct EnrolmentRules: Equatable, Sendable {
  public var selectors: [EnablementSelector]
  public var excludedNamespaces: Set<String>
  /// Where ztunnel runs.
  public var systemNamespace: String

  public init(
    selectors: [EnablementSelector] = [], excludedNamespaces: Set<String> = [],
    systemNamespace: String = "istio-system"
  ) {
    self.selectors = selectors
    self.excludedNamespaces = excludedNamespaces
    self.systemNamespace = systemNamespace
  }

  static let sidecarStatus = "sidecar.istio.io/status"

  public enum Verdict: Equatable, Sendable {
    case inMesh
    case outside(Reason)

    /// Another label on the pod or its namespace would bring the pod into the mesh.
    var mayChangeWithLabels: Bool { self == .outside(.notSelected) || self == .outside(.ztunnel) }
  }

  /// Why a pod is not captured.
  public enum Reason: String, Sendable {
    case hostNetwork = "it is on the node's own network"
    case sidecar = "it has a sidecar"
    case excludedNamespace = "its namespace is excluded"
    case ztunnel = "it is ztunnel"
    case notSelected = "no label of it or its namespace asks for it"
    case terminated = "its containers have ended for good"

    /// Redirection in such a pod is somebody else's, and is left alone whatever an annotation says.
    var isForeign: Bool { self == .hostNetwork || self == .sidecar }
  }

  /// `namespace`: the labels of the pod's namespace.
  public func verdict(_ pod: Pod, namespace: [String: String]) -> Verdict {
    if pod.isOnHostNetwork { return .outside(.hostNetwork) }
    if pod.meta.annotations[Self.sidecarStatus] != nil { return .outside(.sidecar) }
    if pod.isTerminal { return .outside(.terminated) }
    if excludedNamespaces.contains(pod.meta.namespace) { return .outside(.excludedNamespace) }
    // It carries the captured traffic: captured itself, it would carry its own for ever.
    if pod.meta.namespace == systemNamespace, pod.meta.labels["app"] == "ztunnel" { return .outside(.ztunnel) }
    let isSelected = selectors.contains { $0.matches(pod: pod.meta.labels, namespace: namespace) }
    return isSelected ? .inMesh : .outside(.notSelected)
  }
}
