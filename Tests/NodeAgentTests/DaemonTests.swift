import Foundation
import JSON
import Linux
import TestSupport
import Testing
import ZDS

@testable import NodeAgent

/// The whole daemon as a process, with real namespaces, and a ztunnel that only remembers.
@Suite("The node agent as a process", .requires(.root, .command("ip")))
struct DaemonTests {
  /// Ztunnel's side, which says yes to everything.
  private final class Recorder: PlayedZtunnel {
    var lines: [String] = []
    override func disconnected(_ error: ZDSError) { lines.append("disconnected") }
    override func follow(
      _ instruction: WorkloadInstruction<NetworkNamespace>, with sockets: [SharedDescriptor]
    ) async -> InstructionAnswer {
      switch instruction {
      case .add(let uid, _, let namespace): lines.append("add \(uid) \(namespace.identity)")
      case .addWithoutNamespace(let uid, _): lines.append("bad add \(uid)")
      case .keep(let uid): lines.append("keep \(uid)")
      case .delete(let uid): lines.append("delete \(uid)")
      case .snapshotSent: lines.append("snapshot")
      }
      return .acknowledge
    }
  }

  @Test("from a file to rules and an announced namespace, through drift and removal, and out")
  func wholeLife() async throws {
    try await TestNetwork.with { network in try await wholeLife(of: network.namespace("pod")) }
  }

  private func wholeLife(of pod: TestNamespace) async throws {
    let rig = try AgentRig(pod)
    defer { rig.process.kill() }
    #expect(try rig.rules("--check").status == 0)
    #expect(try rig.rules().output == (try rig.rules("--dry-run").output))

    let identity = "\(pod.namespace.identity)"
    let socket = try rig.socket
    let lines = try await onLoop { loop in
      let recorder = Recorder()
      let client = ZDSClient(path: socket, on: loop, handler: recorder)
      loop.spawn { await client.run() }
      _ = await loop.waitUntil { recorder.lines.contains("snapshot") }
      rig.removeWorkload()
      _ = await loop.waitUntil { recorder.lines.contains("delete shop/web") }
      client.stop()
      return recorder.lines
    }
    #expect(lines.prefix(2) == ["add shop/web \(identity)", "snapshot"])
    #expect(lines.last == "delete shop/web")
    #expect(try rig.rules("--check").status == 1)
    #expect(try !rig.rules().output.contains("ISTIO"))

    try rig.addWorkload()
    #expect(try eventually { try rig.rules("--check").status == 0 })
    if Command.path(of: "iptables-legacy") != nil {
      try pod.mustRun(["iptables-legacy", "-t", "nat", "-F", "ISTIO_OUTPUT"])
      #expect(rig.process.waitForLine(containing: "redirection deviated") != nil)
      #expect(try eventually { try rig.rules("--check").status == 0 })
    }
    #expect(rig.process.terminate() == 0)
    #expect(try rig.rules("--check").status == 0, "rules stay after the end")
  }

  @Test("with --cleanup-on-exit nothing is left behind")
  func cleanup() throws {
    try TestNetwork.with { network in
      let rig = try AgentRig(network.namespace("pod"), "--cleanup-on-exit", until: "redirection written")
      defer { rig.process.kill() }
      #expect(rig.process.terminate() == 0)
      #expect(try !rig.rules().output.contains("ISTIO"))
    }
  }

  @Test("SIGHUP has it look at everything anew, without waiting for its timer", .requires(.command("iptables-legacy")))
  func looksAnew() throws {
    try TestNetwork.with { network in
      let pod = try network.namespace("pod")
      let rig = try AgentRig(pod, environment: ["AMBIENT_RECONCILE_INTERVAL": "1h"], until: "redirection written")
      defer { rig.process.kill() }
      try pod.mustRun(["iptables-legacy", "-t", "nat", "-F"])
      #expect(try rig.rules("--check").status != 0)
      rig.process.signal(SIGHUP)
      #expect(try eventually { try rig.rules("--check").status == 0 })
      #expect(rig.process.waitForLine(containing: "looking at everything anew") != nil)
      #expect(rig.process.terminate() == 0)
    }
  }

  @Test("a second SIGTERM ends a clean-up that takes long, and is told of")
  func askedTwice() throws {
    try TestNetwork.with { network in
      let pod = try network.namespace("pod")
      let rig = try AgentRig(pod, "--cleanup-on-exit", environment: ["AMBIENT_RECONCILE_INTERVAL": "1h"])
      let process = rig.process
      defer { process.kill() }
      // The clean-up waits for whoever else is writing the namespace's tables.
      let lock = SharedDescriptor(try Descriptor.open(pod.path, O_RDONLY))
      try system("flock") { flock(lock.raw, LOCK_EX) }
      process.signal(SIGTERM)
      #expect(process.waitForLine(containing: "stopping") != nil)
      #expect(process.waitForExit(within: .milliseconds(500)) == nil, "it waits for the lock")
      process.signal(SIGTERM)
      #expect(process.waitForExit(within: .seconds(10)) == 1)
      #expect(process.lines.contains { $0.contains("asked again to end") })
    }
  }

  @Test("the version is there for programs too")
  func version() throws {
    let agent = try #require(BuiltProduct.path("node-agent"))
    let value = try JSONValue.parse(Array(try Command.mustRun([agent, "version", "--json"]).utf8))
    #expect(value["program"]?.string == "node-agent")
    #expect(value["version"]?.string?.isEmpty == false)
    #expect(value["gitRevision"]?.string?.isEmpty == false, "unknown, where the build was not told")
  }

  @Test("a saved status is explained like that of a running agent")
  func explainsSavedStatus() throws {
    let agent = try #require(BuiltProduct.path("node-agent"))
    let temporary = try TemporaryDirectory()
    try temporary.write(
      #"{"workloads": [{"namespace": "shop", "name": "web", "uid": "u", "state": "FENCED", "deviations": ["nat: gone"]}]}"#,
      to: "status.json")
    let result = try Command.run([agent, "explain", "shop/web", "--status", temporary.path + "/status.json"])
    #expect(result.status == 1)
    #expect(result.output.contains("nat: gone"))
    #expect(try Command.run([agent, "explain", "shop/web", "--status", "/nowhere"]).status == 3)
  }

  @Test(
    "a setting that cannot be used ends the start with its name",
    arguments: [
      ["ZTUNNEL_UDS_ADDRESS": ""], ["AMBIENT_IPV6": "maybe"], ["LOG_LEVEL": "=,="],
    ])
  func badSettings(environment: [String: String]) throws {
    let agent = try #require(BuiltProduct.path("node-agent"))
    let process = try RunningProcess([agent], environment: environment)
    defer { process.kill() }
    let status = try #require(process.waitForExit(within: .seconds(10)))
    #expect(status != 0)
    if let name = environment.keys.first, name != "LOG_LEVEL" { #expect(process.errors.contains(name)) }
  }

  @Test(
    "rules of something that is no namespace fail with status 2 and the reason",
    arguments: [
      "/run/netns/there-is-none", "/etc/hostname",
    ])
  func rulesOfNothing(path: String) throws {
    let agent = try #require(BuiltProduct.path("node-agent"))
    let result = try Command.run([agent, "rules", "--netns", path])
    #expect(result.status == 2)
    #expect(result.errors.contains("NETNS_"))
  }
}
