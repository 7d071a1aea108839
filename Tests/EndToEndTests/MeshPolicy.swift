/// An authorization policy as the mesh file has it (policy.md §2).
struct MeshPolicy {
  enum Scope: String { case global = "Global", namespace = "Namespace", workload = "WorkloadSelector" }
  enum Action: String { case allow = "Allow", deny = "Deny" }

  let name: String
  var namespace = "demo"
  var scope = Scope.namespace
  let action: Action
  var isDryRun = false
  /// Matches, of which any is enough, in YAML's flow style: `principals: [...], destinationPorts: [80]`.
  let matches: [String]

  /// As workloads refer to it.
  var key: String { "\(namespace)/\(name)" }

  /// Its entry in the list of policies.
  var document: String {
    """
    - name: \(name)
      namespace: \(namespace)
      scope: \(scope.rawValue)
      action: \(action.rawValue)
      dryRun: \(isDryRun)
      rules: [[[\(matches.map { "{\($0)}" }.joined(separator: ", "))]]]
    """
  }

  /// A match of who has proven to be one of `pods`.
  static func from(_ pods: MeshPod...) -> String {
    "principals: [\(pods.map { "\"\($0.identity.dropFirst("spiffe://".count))\"" }.joined(separator: ", "))]"
  }

  /// What istiod makes of a strict PeerAuthentication (policy.md §9.2).
  static let strictMTLS = MeshPolicy(
    name: "istio_converted_static_strict", namespace: "istio-system", scope: .workload, action: .deny,
    matches: ["notPrincipals: [{Presence: {}}]"])
}
