import Foundation
import Glibc
import TestSupport
import Testing

/// Kubelet's probes, which come without an identity.
extension EnrolmentOnNodeTests {
  @Test("probes stay green without a break although plaintext is denied", arguments: ["host", "in-pod"])
  func probes(mode: String) async throws {
    try await onNode(agent: ["AMBIENT_PROBE_MODE": mode]) { node, namespace in
      try node.set(policies: [.strict])
      try node.apply(
        NodePod.manifest("a", in: namespace), NodePod.manifest("b", in: namespace),
        NodePod.manifest("outside", in: namespace, labels: ["istio.io/dataplane-mode": "none"]))
      let pods = try pods(node, namespace, "two are enrolled, and all are ready") { pods in
        pods.count { $0.redirection == "enabled" } == 2 && pods.count(where: \.isReady) == 3
      }
      let a = try #require(pods.first { $0.name == "a" })
      let outside = try node.network(of: try #require(pods.first { $0.name == "outside" })).namespace
      let address = try #require(a.address)
      // The policy is in force: whoever is not the kubelet is turned away.
      let isDenied = try eventually(within: Self.patience) {
        try !Command.run(["curl", "-sS", "--max-time", "2", "http://\(address):8080/"], in: outside).succeeded
          && node.ztunnel().lines.contains { $0.contains("\(address)") && $0.contains("strict") }
      }
      #expect(isDenied, "and the log says why")

      let watch = try ReadinessWatch(node, namespace)
      defer { watch.stop() }
      for turn in 0..<3 {
        node.stopAgent(with: turn == 0 ? SIGKILL : SIGTERM)
        try node.startAgent(["AMBIENT_PROBE_MODE": mode])
        // What comes in is not captured any more, until that is repaired.
        try Command.mustRun(
          ["iptables-legacy", "-t", "nat", "-F", "PREROUTING"], in: try node.network(of: a).namespace)
        if turn == 1 {
          node.stopZtunnel()
          try node.startZtunnel()
        }
        let areProven = try eventually(within: Self.patience) {
          try node.provenPods() == 2 + NodeLoad.pods.count
        }
        #expect(areProven)
      }
      // Probes come every second; three in a row make a pod unready.
      try await Task.sleep(for: .seconds(4))
      let lines = watch.lines
      #expect(lines.count >= 3, "\(lines)")
      #expect(lines.allSatisfy { $0.hasSuffix(" True 0") }, "always ready, never restarted: \(lines)")
    }
  }
}

extension KubernetesNode {
  /// How many pods are proven to be captured and served, as the agent counts them; nil when no agent answers.
  func provenPods() throws -> Int? {
    try metrics().first { $0.hasPrefix("node_agent_workload_proofs{state=\"PROVEN\"}") }?.split(separator: " ").last
      .flatMap { Int($0) }
  }
}

/// Every change of the pods of a namespace as the API server tells it.
final class ReadinessWatch {
  private let process: RunningProcess

  init(_ node: KubernetesNode, _ namespace: String) throws {
    let format =
      "{.metadata.name} {.status.conditions[?(@.type==\"Ready\")].status} {.status.containerStatuses[0].restartCount}"
    process = try RunningProcess(
      [
        "env", "PATH=\(node.environment["PATH"] ?? "")", "kubectl", "get", "pods", "-n", namespace, "--watch", "-o",
        "jsonpath=\(format){\"\\n\"}",
      ], environment: node.environment)
    _ = process.waitForLine(containing: "True")
  }

  /// Name, readiness and restarts of a pod, one line a change.
  var lines: [String] { process.lines.filter { !$0.isEmpty } }

  func stop() { process.kill() }
}
