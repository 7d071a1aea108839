import Foundation
import Glibc
import Linux
import TestSupport
import Testing
import Vocabulary

/// What befalls a node in operation: reboots, an API server that is away, a CNI configuration that others write.
extension EnrolmentOnNodeTests {
  @Test("after a reboot no pod of the mesh runs before it is captured, and all are when the daemons are back")
  func reboot() async throws {
    try await onNode(startAgent: false) { node, namespace in
      try node.startAgent(try plugin(node))
      try requireEntry(node)
      // Outside of the mesh: whoever comes was let out by ztunnel, or by nobody.
      let witness = try TCPServer(in: node.network, .reset)
      defer { witness.stop() }
      let target = "\(try node.address()):\(witness.port)"
      for name in ["a", "b"] { try node.apply(NodePod.manifest(name, in: namespace, target: target)) }
      _ = try enrolled(node, namespace, 2)
      let isReached = eventually(within: Self.patience) { !witness.peers.isEmpty }
      #expect(isReached, "the pods' clients run")

      // Whatever comes of it, the tests after this one have a node.
      defer { try? node.start() }
      try node.reboot()
      let before = witness.peers.count
      // Kubelet tries to start them, and the plugin finds nobody to ask.
      let isTold = try eventually(within: Self.patience) {
        try node.kubectl(["get", "events", "-n", namespace]).contains("CNI_AGENT_AWAY")
      }
      #expect(isTold)
      try node.startAgent(try plugin(node))
      // Without a ztunnel they are captured and wait.
      let isCaptured = try eventually(within: Self.patience) {
        try node.podNamespacePaths().contains { try node.isCaptured($0) }
      }
      #expect(isCaptured)
      #expect(witness.peers.count == before, "nothing of a pod left before ztunnel served it")
      try node.startZtunnel()
      let after = try enrolled(node, namespace, 2)
      for pod in after { #expect(try node.isCaptured(pod), "\(pod.name)") }
      let isReachedAgain = eventually(within: Self.patience) { witness.peers.count > before }
      #expect(isReachedAgain, "the pods' clients run again")
    }
  }

  @Test("an API server that is away for a minute costs no pod its capture, whatever else happens meanwhile")
  func serverAway() async throws {
    try await onNode(startAgent: false) { node, namespace in
      try node.startAgent(try plugin(node))
      try requireEntry(node)
      try node.apply(NodePod.manifest("kept", in: namespace), NodePod.manifest("new", in: namespace))
      let pods = try enrolled(node, namespace, 2)
      let kept = try #require(pods.first { $0.name == "kept" })
      let new = try #require(pods.first { $0.name == "new" })
      let inside = try node.network(of: kept).namespace
      func reachesPeer() throws -> Bool {
        let command = ["curl", "-sS", "--max-time", "2", "http://\(NodeLoad.address)/"]
        return try Command.run(command, in: inside).output == "peer\n"
      }
      try await node.pauseServer {
        let begin = ContinuousClock.now
        let known = Set(try node.podNamespacePaths())
        try node.killSandbox(of: new)
        // Nobody but the plugin can have told of the new one.
        let isAdmitted = try eventually(within: Self.patience) {
          try node.podNamespacePaths().contains { try !known.contains($0) && node.isCaptured($0) }
        }
        #expect(isAdmitted, "a pod that gets a new sandbox is captured")
        // Long enough for the client's own probes of the connection to give it up.
        #expect(try node.agent().waitForLine(containing: "KUBERNETES_", within: .seconds(90)) != nil)
        // Rules that are lost while the server is away come back without it. Not those that capture what leaves: what
        // somebody lets out by flushing them would be counted.
        try Command.mustRun(["iptables-legacy", "-t", "nat", "-F", "PREROUTING"], in: inside)
        let isRepaired = try eventually(within: Self.patience) { try node.isCaptured(kept) }
        #expect(isRepaired)

        node.stopAgent(with: SIGKILL)
        try node.startAgent(try plugin(node))
        #expect(try reachesPeer(), "ztunnel serves on without an agent")
        node.stopZtunnel()
        try node.startZtunnel()
        let isServed = try eventually(within: Self.patience) { try reachesPeer() }
        #expect(isServed, "an agent that has not read the cluster hands over what the last one had")
        while ContinuousClock.now - begin < .seconds(62) {
          #expect(try node.isCaptured(kept))
          #expect(try node.escapes().escaped == [])
          try await Task.sleep(for: .seconds(1))
        }
      }
      try node.kubectl(
        ["label", "pod", "new", "-n", namespace, "istio.io/dataplane-mode=none"], timeout: Self.patience)
      let after = try self.pods(node, namespace, "one is out, and one goes on") { pods in
        pods.first { $0.name == "new" }?.redirection == nil
          && pods.first { $0.name == "kept" }.map { $0.redirection == "enabled" && $0.isReady } == true
      }
      #expect(after.first { $0.name == "kept" }?.restarts == 0)
      #expect(try reachesPeer())
    }
  }

  @Test("a CNI configuration that is overwritten, or that another file precedes, is put right while pods start")
  func configurationOverwritten() async throws {
    try await onNode(startAgent: false) { node, namespace in
      let directory = try #require(node.environment["K8S_CNI_CONF"])
      let file = try #require(try FileManager.default.contentsOfDirectory(atPath: directory).sorted().first)
      let original = try String(contentsOfFile: "\(directory)/\(file)", encoding: .utf8)
      let first = "\(directory)/00-first.conflist"
      defer { try? FileManager.default.removeItem(atPath: first) }
      try node.startAgent(try plugin(node))
      try requireEntry(node)
      let count = 9
      for index in 0..<count {
        try node.apply(NodePod.manifest("p\(index)", in: namespace))
        switch index {
        case 2: try original.write(toFile: "\(directory)/\(file)", atomically: true, encoding: .utf8)
        case 5: try original.write(toFile: first, atomically: true, encoding: .utf8)
        default: continue
        }
        let isRepaired = try eventually(within: Self.patience) { try node.hasEntryInForce() }
        #expect(isRepaired, "the file that is in force names the plugin again")
      }
      for pod in try enrolled(node, namespace, count) {
        #expect(try node.isCaptured(pod), "\(pod.name)")
        #expect(pod.restarts == 0)
      }
      node.stopAgent(with: SIGTERM)
      #expect(try !holdsEntry(node), "both files are as they were")
    }
  }
}

extension KubernetesNode {
  /// The node's own address.
  func address() throws -> String {
    try kubectl([
      "get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}",
    ])
  }

  /// Whether the configuration that the runtime goes by, the first by name, names the plugin.
  func hasEntryInForce() throws -> Bool {
    let directory = try #require(environment["K8S_CNI_CONF"])
    guard let file = try FileManager.default.contentsOfDirectory(atPath: directory).sorted().first else { return false }
    return try String(contentsOfFile: "\(directory)/\(file)", encoding: .utf8).contains("ambient-cni")
  }
}
