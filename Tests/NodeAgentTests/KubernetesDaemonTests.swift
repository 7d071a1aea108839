import Foundation
import KubernetesTestSupport
import Linux
import TestSupport
import Testing
import ZDS

@testable import NodeAgent

/// Ztunnel's side, which remembers what it was given.
private final class NamedAdds: PlayedZtunnel {
  var lines: [String] = []
  override func follow(
    _ instruction: WorkloadInstruction<NetworkNamespace>, with sockets: [SharedDescriptor]
  ) async -> InstructionAnswer {
    switch instruction {
    case .add(let uid, let info, let namespace): lines.append("add \(uid) \(info) \(namespace.identity)")
    case .snapshotSent: lines.append("snapshot")
    case .addWithoutNamespace, .keep, .delete: lines.append("\(instruction)")
    }
    return .acknowledge
  }
}

/// The whole daemon with an API server that this process plays, and the host's rules in a namespace of its own.
@Suite(
  "The node agent as a process, in a cluster", .requires(.root, .command("ip"), .command("iptables-legacy")),
  .serialized)
struct KubernetesDaemonTests {
  private static func run(
    _ cluster: FakeCluster, _ node: NodeDirectories, host: TestNamespace, mode: String
  ) throws -> RunningProcess {
    let agent = try #require(BuiltProduct.path("node-agent"))
    try FileManager.default.createDirectory(atPath: "\(node.root)/proc/1/ns", withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(
      atPath: "\(node.root)/proc/1/ns/net", withDestinationPath: host.path)
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    let authority = Data(cluster.server.root.utf8).base64EncodedString()
    try node.write(
      "kubeconfig",
      """
      {"clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:\(cluster.server.port)",
        "tls-server-name":"api.test","certificate-authority-data":"\(authority)"}}],
       "users":[{"name":"u","user":{"token":"t"}}],
       "contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],"current-context":"x"}
      """)
    let environment = node.environment([
      "HOST_PROC": "\(node.root)/proc", "ALLOW_SWITCH_TO_HOST_NS": "true", "NODE_NAME": "n1",
      "AMBIENT_STATE_DIRECTORY": "\(node.root)/state", "AMBIENT_STATUS_SOCKET": "\(node.root)/status.sock",
      "AMBIENT_PROBE_MODE": mode, "MONITORING_PORT": "0", "AMBIENT_HEALTH_PORT": "0",
    ])
    return try RunningProcess(
      [
        agent, "run", "--source", "kubernetes", "--kubeconfig", "\(node.root)/kubeconfig", "--ztunnel-uds-address",
        "\(node.root)/z.sock",
      ], environment: environment)
  }

  /// The node's own rules of ours, in both families and tables.
  private static func rules(_ host: TestNamespace) throws -> [Substring] {
    try ["iptables-legacy", "ip6tables-legacy"].flatMap { program in
      try ["nat", "mangle"].flatMap { table in
        try host.mustRun([program, "-t", table, "-S"]).split(separator: "\n").filter { $0.contains("ISTIO") }
      }
    }
  }

  @Test("an agent that no other follows takes the node's own rules with it", arguments: ["host", "in-pod"])
  func lastAgent(mode: String) async throws {
    try await TestNetwork.with { network in
      let host = try network.namespace("host")
      let node = try NodeDirectories()
      let outcome = try await onLoop { loop -> Result<(during: Int, after: Int, plugin: Bool), any Error> in
        do {
          let cluster = try FakeCluster(on: loop)
          let process = try Self.run(cluster, node, host: host, mode: mode)
          defer { process.kill() }
          // The loop answers meanwhile.
          guard await loop.waitUntil({ process.output.contains("the CNI plugin is installed") }) else {
            throw SystemError("start", ETIMEDOUT, subject: process.output + process.errors)
          }
          let during = try Self.rules(host).count
          // The DaemonSet is not there: 404.
          process.signal(SIGTERM)
          _ = await loop.waitUntil { !process.isRunning }
          cluster.server.stop()
          return .success((during, try Self.rules(host).count, node.names("bin").contains("ambient-cni")))
        } catch { return .failure(error) }
      }.get()
      #expect(outcome.during > 0)
      #expect(outcome.after == 0)
      #expect(!outcome.plugin)
    }
  }

  @Test("a ztunnel that starts while the API server is away gets the pods that an earlier agent had in the mesh")
  func remembered() async throws {
    try await TestNetwork.with { network in
      let (host, pod) = (try network.namespace("host"), try network.namespace("pod"))
      let node = try NodeDirectories()
      let identity = pod.namespace.identity
      let known = RememberedPod(
        uid: "u1", info: .init(name: "web", namespace: "shop", serviceAccount: "sa"), addresses: [],
        annotations: .init(),
        sandbox: .init(path: pod.path, containerID: "c1", addresses: [], namespace: identity))
      var memory = PodMemory(RememberedFiles(directory: "\(node.root)/state/pods"))
      memory.remember(known)
      let lines = try await onLoop { loop -> Result<[String], any Error> in
        do {
          let cluster = try FakeCluster(on: loop)
          cluster.isAway = true
          let process = try Self.run(cluster, node, host: host, mode: "off")
          defer { process.kill() }
          let ztunnel = NamedAdds()
          let client = ZDSClient(path: try UnixSocketPath("\(node.root)/z.sock"), on: loop, handler: ztunnel)
          loop.spawn { await client.run() }
          for _ in 0..<6 where !ztunnel.lines.contains("snapshot") {
            _ = await loop.waitUntil { ztunnel.lines.contains("snapshot") }
          }
          client.stop()
          cluster.server.stop()
          return .success(ztunnel.lines)
        } catch { return .failure(error) }
      }.get()
      // It is told once more when it has everything: nobody had taken the pod before.
      #expect(lines.prefix(2) == ["add u1 shop/web \(identity)", "snapshot"])
      let agent = try #require(BuiltProduct.path("node-agent"))
      #expect(try Command.run([agent, "rules", "--netns", pod.path, "--check"]).status == 0)
    }
  }

  @Test("asked twice to end, it ends at once, and what it said is not lost")
  func secondSignal() async throws {
    try await TestNetwork.with { network in
      let host = try network.namespace("host")
      let node = try NodeDirectories()
      let outcome = try await onLoop { loop -> Result<String, any Error> in
        do {
          let cluster = try FakeCluster(on: loop)
          let process = try Self.run(cluster, node, host: host, mode: "off")
          defer { process.kill() }
          guard await loop.waitUntil({ process.output.contains("the CNI plugin is installed") }) else {
            throw SystemError("start", ETIMEDOUT, subject: process.output + process.errors)
          }
          // The question about the DaemonSet is not answered.
          cluster.isSilent = true
          process.signal(SIGTERM)
          _ = await loop.waitUntil { process.output.contains("stopping") }
          process.signal(SIGTERM)
          _ = await loop.waitUntil { !process.isRunning }
          cluster.server.stop()
          return .success(process.output)
        } catch { return .failure(error) }
      }.get()
      #expect(outcome.contains("asked again to end"))
    }
  }
}
