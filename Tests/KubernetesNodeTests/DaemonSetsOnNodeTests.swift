import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

/// Both daemons as users install them: containers of their own images, by the project's manifests.
extension EnrolmentOnNodeTests {
  @Test(
    "with both DaemonSets as containers pods talk on their identities, and a policy allows one and denies another",
    .requires(.releaseBuild))
  func daemonSets() async throws {
    let node = try KubernetesNode.current()
    let system = "mesh-" + UUID().uuidString.prefix(8).lowercased()
    let namespace = "t" + UUID().uuidString.prefix(8).lowercased()
    defer { node.clean([namespace, system]) }
    try node.importImages()
    try node.kubectl(["create", "namespace", system])
    try node.kubectl([
      "create", "configmap", "istio-ca-root-cert", "-n", system,
      "--from-file=root-cert.pem=\(node.directory)/ca/root-cert.pem",
    ])
    try node.set(policies: [])
    let manifests = try node.daemonSets(in: system)
    defer { _ = try? node.kubectl(["delete", "--wait=false", "-f", "-"], input: manifests) }
    try node.apply(manifests)
    do { try await talk(node, system, namespace) } catch {
      printDaemonSets(node, system)
      throw error
    }
    // The agent's last act, as its DaemonSet is gone.
    try node.kubectl(["delete", "--wait=false", "-f", "-"], input: manifests)
    let isTakenOff = try eventually(within: Self.patience) { try !holdsEntry(node) }
    if !isTakenOff { printDaemonSets(node, system) }
    #expect(isTakenOff, "the plugin is off the node")
  }

  private func talk(_ node: KubernetesNode, _ system: String, _ namespace: String) async throws {
    for name in ["istio-cni-node", "ztunnel"] {
      try node.kubectl(
        ["rollout", "status", "daemonset/\(name)", "-n", system, "--timeout=60s"], timeout: .seconds(70))
    }
    try requireEntry(node)
    let accounts = ["server", "friend", "stranger"]
    try node.apply(NodePod.namespace(namespace, ambient: true))
    for account in accounts { try node.kubectl(["create", "serviceaccount", account, "-n", namespace]) }
    for account in accounts { try node.waitForAccount(account, in: namespace) }
    try node.set(policies: [
      NodePolicy(
        name: "friends", action: "Allow", match: "principals: [\"cluster.local/ns/\(namespace)/sa/friend\"]",
        namespace: namespace)
    ])
    for account in accounts { try node.apply(NodePod.manifest(account, in: namespace, serviceAccount: account)) }
    let all = try enrolled(node, namespace, accounts.count)
    #expect(all.allSatisfy { $0.restarts == 0 })
    let address = try #require(all.first { $0.name == "server" }?.address)
    func ask(from name: String) throws -> CommandResult {
      let inside = try node.network(of: try #require(all.first { $0.name == name })).namespace
      return try Command.run(["curl", "-sS", "--max-time", "5", "http://\(address):8080/"], in: inside)
    }
    let isAllowed = try eventually(within: Self.patience) { try ask(from: "friend").output == "server\n" }
    #expect(isAllowed)
    let isDenied = try eventually(within: Self.patience) { try !ask(from: "stranger").succeeded }
    #expect(isDenied)
    #expect(try ask(from: "friend").output == "server\n", "and the friend is still let in")

    let identity = { (account: String) in "spiffe://cluster.local/ns/\(namespace)/sa/\(account)" }
    let isLogged = try eventually(within: Self.patience) {
      let lines = try node.kubectl(["logs", "-n", system, "daemonset/ztunnel"]).split(separator: "\n")
        .filter { $0.contains("inbound") && $0.contains(identity("server")) }
      return lines.contains { $0.contains(identity("friend")) && !$0.contains("error") }
        && lines.contains { $0.contains(identity("stranger")) && $0.contains("error") }
    }
    #expect(isLogged, "the access log names both clients' identities, and one connection's refusal")
    try node.expectNoEscapes()
    #expect(try node.escapeMetric() == 0)
  }

  private func printDaemonSets(_ node: KubernetesNode, _ system: String) {
    print((try? node.kubectl(["get", "pods,events", "-n", system, "-o", "wide"])) ?? "")
    for name in ["istio-cni-node", "ztunnel"] {
      print("--- \(name)\n" + ((try? node.kubectl(["logs", "-n", system, "daemonset/\(name)", "--tail=200"])) ?? ""))
    }
  }
}
