import JSON
import Kubernetes

/// Asks what became of the DaemonSet that the agent belongs to (enrollment.md §7).
enum DaemonSetQuery {
  /// The name that the plugin, the installer and Istio's control plane know.
  static let name = "istio-cni-node"
  /// Its pods carry this label with ``agent`` when they run this agent, and not Istio's under the same name.
  static let label = "app.kubernetes.io/name"
  static let agent = "ambient-node-agent"
  private static let patience = Duration.seconds(3)

  static func ask(
    _ client: APIClient, namespace: String, node: String
  ) async -> DepartureDecision.DaemonSet {
    do throws(KubernetesError) {
      let daemonSet = try await client.send(
        APIRequest(.get, "/apis/apps/v1/namespaces/\(namespace)/daemonsets/\(name)"), within: patience)
      let nodeLabels = try await client.send(APIRequest(.get, "/api/v1/nodes/\(node)"), within: patience)
      return judge(daemonSet, node: nodeLabels)
    } catch {
      guard case .refused(_, let status, _, let message) = error else { return .unknown(error.summary) }
      switch status {
      case 404: return .absent
      case 401, 403: return .forbidden
      default: return .unknown("\(status) \(message)")
      }
    }
  }

  /// What the two objects say together.
  static func judge(_ daemonSet: JSONValue, node: JSONValue) -> DepartureDecision.DaemonSet {
    let template = daemonSet["spec"]?["template"]
    return .present(
      isOurs: template?["metadata"]?["labels"]?[label]?.string == agent,
      isBeingDeleted: daemonSet["metadata"]?["deletionTimestamp"].map { !$0.isNull } ?? false,
      matchesNode: wants(template?["spec"], node["metadata"]))
  }

  /// Whether a pod of this specification may run on the node: its node selector, and what it requires of nodes.
  private static func wants(_ pod: JSONValue?, _ node: JSONValue?) -> Bool {
    let labels = node?["labels"]
    let selector = pod?["nodeSelector"]?.object?.members ?? []
    guard selector.allSatisfy({ labels?[$0.key] == $0.value }) else { return false }
    let required = pod?["affinity"]?["nodeAffinity"]?["requiredDuringSchedulingIgnoredDuringExecution"]
    guard let terms = required?["nodeSelectorTerms"]?.array else { return true }
    return terms.contains { term in
      (term["matchExpressions"]?.array ?? []).allSatisfy { holds($0, labels?[$0["key"]?.string ?? ""]?.string) }
        && (term["matchFields"]?.array ?? []).allSatisfy { holds($0, node?["name"]?.string) }
    }
  }

  private static func holds(_ requirement: JSONValue, _ value: String?) -> Bool {
    let values = requirement["values"]?.array?.compactMap(\.string) ?? []
    switch requirement["operator"]?.string {
    case "In": return value.map(values.contains) ?? false
    case "NotIn": return value.map { !values.contains($0) } ?? true
    case "Exists": return value != nil
    case "DoesNotExist": return value == nil
    case "Gt": return compare(value, values, >)
    case "Lt": return compare(value, values, <)
    // What is not understood must not take the plugin off the node.
    default: return true
    }
  }

  private static func compare(_ value: String?, _ values: [String], _ order: (Int, Int) -> Bool) -> Bool {
    guard let value = value.flatMap({ Int($0) }), let bound = values.first.flatMap({ Int($0) }) else { return false }
    return order(value, bound)
  }
}

extension KubernetesSource {
  /// Nil when the agent is no pod of a DaemonSet, as far as it knows.
  func daemonSet(namespace: String?) async -> DepartureDecision.DaemonSet? {
    guard let namespace, !namespace.isEmpty else { return nil }
    return await DaemonSetQuery.ask(client, namespace: namespace, node: settings.nodeName)
  }
}
