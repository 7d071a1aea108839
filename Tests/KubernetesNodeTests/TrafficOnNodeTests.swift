import Foundation
import Glibc
import Linux
import TestSupport
import Testing
import Vocabulary

/// Connections, new and open, while the daemons are replaced.
extension EnrolmentOnNodeTests {
  /// Two enrolled pods, and a server in one of them that sends back what comes.
  private func pair(
    _ node: KubernetesNode, _ namespace: String
  ) throws -> (client: NetworkNamespace, server: NodePod, echo: TCPServer) {
    try node.apply(NodePod.manifest("client", in: namespace), NodePod.manifest("server", in: namespace))
    let pods = try enrolled(node, namespace, 2)
    let server = try #require(pods.first { $0.name == "server" })
    let client = try node.network(of: try #require(pods.first { $0.name == "client" })).namespace
    let echo = try TCPServer(in: try node.network(of: server).namespace, port: 9000, .echo)
    return (client, server, echo)
  }

  @Test("a rollout with two ztunnels at once fails no new connection and cuts no open one")
  func rollout() async throws {
    // The old one's open connections have the time of a test to end by themselves.
    let patient = ["CONNECTION_TERMINATION_DEADLINE": "60s"]
    try await onNode(ztunnel: patient) { node, namespace in
      let (client, server, echo) = try pair(node, namespace)
      defer { echo.stop() }
      let address = SocketAddress(try #require(server.address), 9000)
      let load = DisturbLoad { try TCPClient(in: client).connect(to: address) }
      let ports = ["ZTUNNEL_READINESS_PORT": "0", "ZTUNNEL_STATS_PORT": "0", "ZTUNNEL_ADMIN_PORT": "0"]
      load.disturb()
      let next = try node.startZtunnel("next", ports.merging(patient) { $1 })
      let old = try node.ztunnel()
      #expect(old.waitForLine(containing: "another ztunnel has taken over", within: Self.patience) != nil)
      old.signal(SIGTERM)
      #expect(old.waitForLine(containing: "shutting down", within: Self.patience) != nil)
      let isServing = eventually(within: Self.patience) { load.servedSince >= 200 }
      #expect(isServing, "new connections are served afterwards")
      let tally = load.stop()
      print(
        "ztunnel rollout: \(tally.newConnections) new connections, \(tally.failedNew) failed; "
          + "\(tally.liveConnections) open ones, \(tally.brokenLive) cut; longest stall \(tally.longestStall)")
      #expect(tally.failedNew == 0, "\(tally.reasons)")
      #expect(tally.brokenLive == 0, "\(tally.reasons)")
      #expect(tally.lostBytes == 0)
      #expect(old.waitForExit(within: .seconds(30)) == 0)
      #expect(next.isRunning)
    }
  }

  @Test("rules that Istio's agent wrote through nftables are replaced under connections that go on", .nftables)
  func takeover() async throws {
    try await onNode { node, namespace in
      let (client, server, echo) = try pair(node, namespace)
      defer { echo.stop() }
      node.stopAgent(with: SIGKILL)
      // What ztunnel serves stays the same; only who wrote the rules is another one.
      let all = [client, try node.network(of: server).namespace]
      for inside in all {
        try Command.mustRun(["iptables-nft-restore"], input: Self.istioRules, in: inside)
        for tool in ["iptables-legacy", "ip6tables-legacy"] {
          for table in ["raw", "mangle", "nat"] {
            try Command.mustRun([tool, "-t", table, "-F"], in: inside)
            try Command.mustRun([tool, "-t", table, "-X"], in: inside)
          }
        }
      }
      let address = SocketAddress(try #require(server.address), 9000)
      let load = DisturbLoad { try TCPClient(in: client).connect(to: address) }
      load.disturb()
      try node.startAgent()
      let isTaken = try eventually(within: Self.patience) {
        try node.pods(namespace).allSatisfy { try node.isCaptured($0) }
      }
      #expect(isTaken)
      let isServing = eventually(within: Self.patience) { load.servedSince >= 100 }
      #expect(isServing, "new connections are served afterwards")
      let tally = load.stop()
      print(
        "takeover: \(tally.newConnections) new connections, \(tally.failedNew) failed; "
          + "\(tally.liveConnections) open ones, \(tally.brokenLive) cut; longest stall \(tally.longestStall)")
      #expect(tally.brokenLive == 0, "\(tally.reasons)")
      #expect(tally.failedNew == 0, "\(tally.reasons)")
      for inside in all { #expect(try !Command.mustRun(["nft", "list", "ruleset"], in: inside).contains("ISTIO")) }
      try node.expectNoEscapes()
      // And out again: nothing of either stays.
      try node.kubectl(["label", "namespace", namespace, "istio.io/dataplane-mode-"])
      let after = try pods(node, namespace, "both are out") { $0.allSatisfy { $0.redirection == nil } }
      for pod in after { #expect(try node.isUntouched(pod), "\(pod.name)") }
      for inside in all { #expect(try !Command.mustRun(["nft", "list", "ruleset"], in: inside).contains("ISTIO")) }
    }
  }

  /// What Istio's agent writes into a pod's namespace without DNS capture (redirection.md §4).
  private static let istioRules = """
    *mangle
    :ISTIO_OUTPUT -
    :ISTIO_PRERT -
    -A PREROUTING -j ISTIO_PRERT
    -A OUTPUT -j ISTIO_OUTPUT
    -A ISTIO_OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
    -A ISTIO_PRERT -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
    COMMIT
    *nat
    :ISTIO_OUTPUT -
    :ISTIO_PRERT -
    -A PREROUTING -j ISTIO_PRERT
    -A OUTPUT -j ISTIO_OUTPUT
    -A ISTIO_OUTPUT -d 169.254.7.127/32 -p tcp -m tcp -j ACCEPT
    -A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
    -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -j ACCEPT
    -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
    -A ISTIO_PRERT -s 169.254.7.127/32 -p tcp -m tcp -j ACCEPT
    -A ISTIO_PRERT ! -d 127.0.0.1/32 -p tcp -m tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006
    COMMIT

    """
}

extension Trait where Self == ConditionTrait {
  /// The kernel and the tools of another agent of the mesh.
  static var nftables: Self { .requires(.command("nft"), .command("iptables-nft-restore")) }
}
