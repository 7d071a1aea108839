import Foundation

/// An authorization policy of the mesh file.
struct NodePolicy: Sendable {
  let name: String
  /// `Allow` or `Deny`.
  let action: String
  /// One match in the form of the mesh file, such as `notPrincipals: [{Presence: {}}]`.
  let match: String
  /// Whose pods it is for; nil: everybody's.
  var namespace: String?

  /// What a control plane makes of a strict PeerAuthentication: nobody comes in without an identity.
  static let strict = NodePolicy(name: "strict", action: "Deny", match: "notPrincipals: [{Presence: {}}]")

  var document: String {
    """
    - name: \(name)
      namespace: \(namespace ?? "istio-system")
      scope: \(namespace == nil ? "Global" : "Namespace")
      action: \(action)
      dryRun: false
      rules: [[[{\(match)}]]]
    """
  }
}

/// What a control plane would tell ztunnel: pods, the service of the load, and policies.
struct NodeMesh {
  /// By namespace.
  var pods: [String: [NodePod]] = [:]
  var policies: [NodePolicy] = []

  var text: String {
    let all = pods.values.flatMap { $0 }.sorted { ($0.namespace, $0.name) < ($1.namespace, $1.name) }
    let workloads = all.compactMap(workload)
    return """
      workloads:\(workloads.isEmpty ? " []" : "")
      \(workloads.joined(separator: "\n"))
      services:
      \(NodeLoad.service(all))
      policies:\(policies.isEmpty ? " []" : "")
      \(policies.map(\.document).joined(separator: "\n"))

      """
  }

  func write(to file: String) throws {
    let text = text
    if (try? String(contentsOfFile: file, encoding: .utf8)) != text {
      try text.write(toFile: file, atomically: true, encoding: .utf8)
    }
  }

  private func workload(_ pod: NodePod) -> String? {
    pod.address.map { address in
      """
      - uid: Kubernetes//Pod/\(pod.namespace)/\(pod.name)
        name: \(pod.name)
        namespace: \(pod.namespace)
        serviceAccount: \(pod.serviceAccount)
        workloadName: \(pod.name)
        canonicalName: \(pod.name)
        node: node1
        workloadIps: ["\(address)"]
        protocol: HBONE
        services: {}
      """
    }
  }
}
