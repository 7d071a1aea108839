import Foundation
import Glibc
import TestSupport
import Testing

/// The CNI plugin between a real container runtime and the real agent.
extension EnrolmentOnNodeTests {
  /// Lets the agent install its plugin on the node, and take it away when it ends.
  func plugin(_ node: KubernetesNode) throws -> [String: String] {
    [
      "MOUNTED_CNI_NET_DIR": try #require(node.environment["K8S_CNI_CONF"]),
      "MOUNTED_CNI_BIN_DIR": try #require(node.environment["K8S_CNI_BIN"]),
      "AMBIENT_CNI_PROGRAM": try #require(BuiltProduct.path("ambient-cni")), "AMBIENT_DISABLE_SAFE_UPGRADE": "true",
    ]
  }

  func holdsEntry(_ node: KubernetesNode) throws -> Bool {
    let directory = try #require(node.environment["K8S_CNI_CONF"])
    return try FileManager.default.contentsOfDirectory(atPath: directory).contains {
      try String(contentsOfFile: "\(directory)/\($0)", encoding: .utf8).contains("ambient-cni")
    }
  }

  func requireEntry(_ node: KubernetesNode) throws {
    let isThere = try eventually(within: Self.patience) { try holdsEntry(node) }
    if !isThere { node.printLogs() }
    try #require(isThere, "the plugin is installed")
  }

  @Test("with the plugin a pod is captured before it starts, and the plugin goes with the last agent")
  func capturedByPlugin() async throws {
    try await onNode(startAgent: false) { node, namespace in
      try node.startAgent(try plugin(node))
      try requireEntry(node)
      try node.apply(NodePod.manifest("web", in: namespace))
      let all = try pods(node, namespace, "the pod is enrolled") {
        $0.contains { $0.redirection == "enabled" && $0.isReady }
      }
      #expect(try node.isCaptured(try #require(all.first)))
      #expect(try node.agent().waitForLine(containing: "a pod is captured", within: .seconds(20)) != nil)
      node.stopAgent(with: SIGTERM)
      #expect(try !holdsEntry(node))
    }
  }

  @Test("without the agent no pod starts that may be of the mesh; those of excluded namespaces do; with it all do")
  func failsClosed() async throws {
    let system = "t" + UUID().uuidString.prefix(8).lowercased()
    try await onNode(startAgent: false) { node, namespace in
      defer { _ = try? node.kubectl(["delete", "pod", system, "-n", "kube-system", "--force", "--grace-period=0"]) }
      try node.startAgent(try plugin(node))
      try requireEntry(node)
      node.stopAgent(with: SIGKILL)
      try node.apply(NodePod.manifest("web", in: namespace), NodePod.manifest(system, in: "kube-system"))
      _ = try pods(node, "kube-system", "the pod of an excluded namespace runs") {
        $0.contains { $0.name == system && $0.isReady }
      }
      let isTold = try eventually(within: Self.patience) {
        try node.kubectl(["get", "events", "-n", namespace]).contains("CNI_AGENT_AWAY")
      }
      #expect(isTold)
      #expect(try node.pods(namespace).allSatisfy { $0.address == nil })
      try node.startAgent(try plugin(node))
      _ = try pods(node, namespace, "the pod is enrolled") { $0.contains { $0.redirection == "enabled" && $0.isReady } }
      node.stopAgent(with: SIGTERM)
    }
  }

  @Test("the manifests are what the API server takes", arguments: ["node-agent", "ztunnel"])
  func manifests(directory: String) async throws {
    let node = try KubernetesNode.current()
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "manifests/kubernetes/\(directory)").path
    // Left there: one that is being deleted takes nothing, and the node ends with the suite.
    _ = try? node.kubectl(["create", "namespace", "istio-system"])
    let text = KubernetesNode.withoutSurge(
      try node.kubectl(["kustomize", root]), try node.kubectl(["version", "--short"]))
    let answer = try node.kubectl(["apply", "--dry-run=server", "-f", "-"], input: text)
    #expect(answer.contains("daemonset.apps/"))
    #expect(!text.contains("privileged: true"))
  }
}
