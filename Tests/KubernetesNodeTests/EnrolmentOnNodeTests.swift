import Foundation
import Glibc
import Linux
import TestSupport
import Testing

@Suite(
  "Enrolment on a real Kubernetes node", .serialized, .requires(.root, .kubernetesNode), .runningNode)
struct EnrolmentOnNodeTests {
  /// Time in which a pod is created, started, enrolled and probed, on a machine that does other things as well.
  static let patience = Duration.seconds(45)

  /// Gives a node with both daemons to `body`, and a namespace of a random name; cleans up afterwards. Whatever `body`
  /// does to them, no captured pod of the node may have sent anything past ztunnel meanwhile.
  func onNode(
    ambient: Bool = true, agent: [String: String] = [:], startAgent: Bool = true, ztunnel: [String: String] = [:],
    _ body: (KubernetesNode, String) async throws -> Void
  ) async throws {
    let node = try KubernetesNode.current()
    let namespace = "t" + UUID().uuidString.prefix(8).lowercased()
    defer { node.clean([namespace]) }
    do {
      if startAgent { try node.startAgent(agent) }
      try node.startZtunnel("ztunnel", ztunnel)
      try node.apply(NodePod.namespace(namespace, ambient: ambient))
      try node.waitForAccount(in: namespace)
      try await body(node, namespace)
      let isLoaded = try eventually(within: Self.patience) { try node.hasCarriedLoad() }
      #expect(isLoaded, "the load ran through the mesh meanwhile")
      try node.expectNoEscapes()
    } catch {
      node.printLogs()
      throw error
    }
  }

  /// Waits until the API shows the pods of a namespace as `condition` wants them.
  func pods(
    _ node: KubernetesNode, _ namespace: String, _ what: Comment, _ condition: ([NodePod]) throws -> Bool
  ) throws -> [NodePod] {
    var latest: [NodePod] = []
    let isSo = try eventually(within: Self.patience) {
      latest = try node.pods(namespace)
      return try condition(latest)
    }
    if !isSo { node.printLogs() }
    try #require(isSo, what)
    return latest
  }

  func enrolled(_ node: KubernetesNode, _ namespace: String, _ count: Int) throws -> [NodePod] {
    try pods(node, namespace, "\(count) pods are enrolled, and their probes are green") { pods in
      pods.count { $0.redirection == "enabled" && $0.isReady } == count
    }
  }

  @Test("a pod that asks for it is captured and probed; one that opts out, and one that never asked, are left alone")
  func labels() async throws {
    try await onNode { node, namespace in
      try node.apply(
        NodePod.manifest("in", in: namespace),
        NodePod.manifest("opted-out", in: namespace, labels: ["istio.io/dataplane-mode": "none"]),
        NodePod.manifest("sidecar", in: namespace, annotations: ["sidecar.istio.io/status": "injected"]))
      let all = try pods(node, namespace, "all run") {
        $0.count(where: \.isReady) == 3 && $0.contains { $0.redirection != nil }
      }
      #expect(all.filter { $0.redirection == "enabled" }.map(\.name) == ["in"])
      for pod in all {
        if pod.name == "in" {
          #expect(try node.isCaptured(pod))
        } else {
          #expect(try node.isUntouched(pod), "\(pod.name)")
        }
      }
    }
  }

  @Test("labels of a namespace that flip take a running pod in and out, and connections work in between")
  func flip() async throws {
    try await onNode(ambient: false) { node, namespace in
      try node.apply(NodePod.manifest("a", in: namespace))
      let before = try pods(node, namespace, "the pod runs") { $0.first?.isReady == true }
      #expect(before.first?.redirection == nil)
      #expect(try node.isUntouched(try #require(before.first)))
      try node.kubectl(["label", "namespace", namespace, "istio.io/dataplane-mode=ambient"])
      let captured = try enrolled(node, namespace, 1)
      #expect(try node.isCaptured(try #require(captured.first)))
      try node.kubectl(["label", "namespace", namespace, "istio.io/dataplane-mode-"])
      let after = try pods(node, namespace, "the pod is out") {
        $0.first?.redirection == nil && $0.first?.isReady == true
      }
      #expect(try node.isUntouched(try #require(after.first)))
      #expect(after.first?.restarts == 0)
    }
  }

  @Test("an annotation that changes on a running pod is applied")
  func annotation() async throws {
    try await onNode { node, namespace in
      try node.apply(NodePod.manifest("a", in: namespace))
      let pod = try #require(try enrolled(node, namespace, 1).first)
      #expect(try node.isCaptured(pod))
      try node.kubectl(["annotate", "pod", "a", "-n", namespace, "ambient.istio.io/dns-capture=true"])
      let binary = try #require(BuiltProduct.path("node-agent"))
      let path = try node.network(of: pod).path
      let isApplied = try eventually(within: Self.patience) {
        try Command.run([binary, "rules", "--netns", path, "--check", "--dns-capture"]).succeeded
      }
      #expect(isApplied)
    }
  }

  @Test("pods made while the agent is down, with rules left by one that was killed, are in order when it is back")
  func agentDown() async throws {
    try await onNode { node, namespace in
      try node.apply(NodePod.manifest("early", in: namespace), NodePod.manifest("leaving", in: namespace))
      _ = try enrolled(node, namespace, 2)
      node.stopAgent(with: SIGKILL)
      try node.apply(NodePod.manifest("late", in: namespace))
      try node.kubectl(["label", "pod", "leaving", "-n", namespace, "istio.io/dataplane-mode=none"])
      // Killed after writing rules and before it said so: nothing but the rules and its own memory tell of it.
      try node.kubectl(["annotate", "pod", "leaving", "-n", namespace, "ambient.istio.io/redirection-"])
      _ = try pods(node, namespace, "the late one runs") { $0.contains { $0.name == "late" && $0.isReady } }
      try node.startAgent()
      let all = try enrolled(node, namespace, 2)
      #expect(all.filter { $0.redirection != nil }.map(\.name).sorted() == ["early", "late"])
      let leaving = try #require(all.first { $0.name == "leaving" })
      let isOut = try eventually(within: Self.patience) { try node.isUntouched(leaving) }
      #expect(isOut, "no rules stay in a pod that nobody serves")
      #expect(all.map(\.restarts) == [0, 0, 0])
    }
  }

  @Test("without a ztunnel a pod is captured, says so, and is not ready; when one comes, it is")
  func pending() async throws {
    try await onNode { node, namespace in
      node.stopZtunnel()
      try node.apply(NodePod.manifest("a", in: namespace))
      let waiting = try pods(node, namespace, "the pod is pending") { $0.first?.redirection == "pending" }
      #expect(try node.isCaptured(try #require(waiting.first)))
      try node.startZtunnel()
      _ = try enrolled(node, namespace, 1)
    }
  }

  @Test("a pod of the same name is another pod: it is enrolled by itself")
  func successor() async throws {
    try await onNode { node, namespace in
      try node.apply(NodePod.manifest("a", in: namespace))
      let first = try #require(try enrolled(node, namespace, 1).first)
      try node.kubectl(["delete", "pod", "a", "-n", namespace, "--wait=true"], timeout: Self.patience)
      try node.apply(NodePod.manifest("a", in: namespace))
      let second = try #require(try enrolled(node, namespace, 1).first)
      #expect(first.uid != second.uid)
      #expect(try node.isCaptured(second))
    }
  }

  @Test("traffic between two pods goes through ztunnel, encrypted, on their identities")
  func traffic() async throws {
    try await onNode { node, namespace in
      try node.apply(NodePod.manifest("client", in: namespace), NodePod.manifest("server", in: namespace))
      let pods = try enrolled(node, namespace, 2)
      let client = try #require(pods.first { $0.name == "client" })
      let address = try #require(pods.first { $0.name == "server" }?.address)
      let inside = try node.network(of: client).namespace
      var answer = ""
      let isAnswered = try eventually(within: Self.patience) {
        let result = try Command.run(["curl", "-sS", "--max-time", "5", "http://\(address):8080/"], in: inside)
        answer = result.output + result.errors
        return answer == "server\n"
      }
      if !isAnswered { node.printLogs() }
      #expect(isAnswered, "\(answer)")
      let identity = "spiffe://cluster.local/ns/\(namespace)/sa/default"
      let isLogged = try eventually(within: Self.patience) {
        try node.ztunnel().lines.contains {
          $0.contains("dst.hbone_addr") && $0.contains("inbound") && $0.contains(identity)
        }
      }
      #expect(isLogged, "the access log names the identity")
    }
  }
}
