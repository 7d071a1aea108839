import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

/// What runs on the node during all tests: a service of the mesh that every pod asks without rest.
enum NodeLoad {
  static let namespace = "load"
  static let serviceAddress = "10.96.77.7"
  /// Where every pod of the tests connects to.
  static let address = "\(serviceAddress):8080"

  /// The pod behind the service, which is its own first client, and the service.
  static let manifest = """
    \(NodePod.namespace(namespace, ambient: true))
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: peer, namespace: \(namespace)}
    spec: {clusterIP: \(serviceAddress), ports: [{port: 8080}], selector: {app: peer}}
    """

  static let pods = [
    NodePod.manifest("peer", in: namespace, labels: ["app": "peer"]), NodePod.manifest("caller", in: namespace),
  ]

  /// The service as a control plane would describe it.
  static func service(_ pods: [NodePod]) -> String {
    let endpoints = pods.filter { $0.namespace == namespace && $0.name == "peer" && $0.address != nil }
    return """
      - name: peer
        namespace: \(namespace)
        hostname: peer.\(namespace).svc.cluster.local
        vips: ["/\(serviceAddress)"]
        ports: {8080: 8080}
        endpoints:\(endpoints.isEmpty ? " {}" : "")
      \(endpoints.map { """
          "Kubernetes//Pod/\($0.namespace)/\($0.name)":
            {workloadUid: "Kubernetes//Pod/\($0.namespace)/\($0.name)", port: {8080: 8080}}
      """ }.joined(separator: "\n"))
      """
  }
}

extension KubernetesNode {
  /// Whether ztunnel has carried a connection of the load, from pod to pod, since it started.
  func hasCarriedLoad(_ ztunnel: String = "ztunnel") throws -> Bool {
    // Its pods may have been started anew, with other addresses.
    _ = try pods(NodeLoad.namespace)
    let identity = "spiffe://cluster.local/ns/\(NodeLoad.namespace)/sa/default"
    return try self.ztunnel(ztunnel).lines.contains {
      $0.contains("dst.hbone_addr") && $0.contains("inbound") && $0.contains("src.identity=\"\(identity)\"")
    }
  }
}

/// What the counters inside the pods have seen. They are the kernel's: whatever happened to the agent, they went on.
struct EscapeReading {
  /// Pods whose counters were read.
  var counted = 0
  /// The counters that are not zero, with the pod's addresses.
  var escaped: [String] = []
}

extension KubernetesNode {
  /// Brings up the load, and returns when it runs. No daemon does yet: the first test captures it.
  func startLoad() throws {
    try kubectl(["apply", "-f", "-"], input: NodeLoad.manifest)
    try waitForAccount(in: NodeLoad.namespace)
    try kubectl(["apply", "-f", "-"], input: NodeLoad.pods.joined(separator: "\n---\n"))
    var latest: [NodePod] = []
    let isRunning = try eventually(within: .seconds(60)) {
      latest = try pods(NodeLoad.namespace)
      return latest.count(where: \.isReady) == NodeLoad.pods.count
    }
    try #require(isRunning, "the pods of the load run")
  }

  /// Reads the rules that count what leaves a captured pod past ztunnel, in every pod of the node.
  func escapes() throws -> EscapeReading {
    var reading = EscapeReading()
    for path in try podNamespacePaths() {
      guard let namespace = try? NetworkNamespace(path: path) else { continue }
      for tool in ["iptables-legacy", "ip6tables-legacy"] {
        let listing = try Command.run([tool, "-t", "mangle", "-nvxL", "ISTIO_WATCH"], in: namespace)
        // No chain: not captured (any more).
        guard listing.succeeded else { continue }
        let rules = listing.output.split(separator: "\n").dropFirst(2)
        reading.counted += 1
        for rule in rules.suffix(2) where rule.split(separator: " ").first != "0" {
          reading.escaped.append("\(path): \(rule)")
        }
      }
    }
    return reading
  }

  /// The agent's own sum, which goes on when rules are written anew; nil when no agent answers.
  func escapeMetric() throws -> Int? {
    let name = "node_agent_escaped_packets_total"
    return try metrics().first { $0.hasPrefix(name + " ") || $0.hasPrefix(name + "{") }?.split(separator: " ").last
      .flatMap { Double($0) }.map { Int($0) }
  }

  /// The agent's metrics, line by line; none when no agent answers.
  func metrics() throws -> [Substring] {
    let answer = try Command.run(["curl", "-sS", "--max-time", "5", "http://127.0.0.1:15014/metrics"], in: network)
    return answer.succeeded ? answer.output.split(separator: "\n") : []
  }

  /// The claim of every scenario: no captured pod has sent anything past ztunnel.
  func expectNoEscapes(_ sourceLocation: SourceLocation = #_sourceLocation) throws {
    let reading = try escapes()
    #expect(reading.escaped == [], sourceLocation: sourceLocation)
    #expect(reading.counted > 0, "there are pods that count", sourceLocation: sourceLocation)
    if isRunning("agent") {
      #expect(try escapeMetric() == 0, "node_agent_escaped_packets", sourceLocation: sourceLocation)
    }
  }
}
