import Foundation
import Glibc
import JSON
import Linux
import TestSupport
import Testing
import Vocabulary
import ZDS

@testable import NodeAgent

/// What a running agent proves and says, with real namespaces.
@Suite("The node agent's proofs", .requires(.root, .command("ip"), .command("iptables-legacy")), .serialized)
struct DaemonProofTests {
  /// Ztunnel's side, which listens where it should, or nowhere.
  private final class Ztunnel: PlayedZtunnel {
    let listens: Bool
    var sockets: [SharedDescriptor] = []
    var followed: [String] = []

    init(listens: Bool) { self.listens = listens }

    override func follow(
      _ instruction: WorkloadInstruction<NetworkNamespace>, with kept: [SharedDescriptor]
    ) async -> InstructionAnswer {
      if case .add(_, _, let namespace) = instruction, listens, sockets.isEmpty {
        for port in [15001, 15006, 15008] as [UInt16] {
          do { sockets.append(try Self.listener(in: namespace, port)) } catch { return .refuse("\(error)") }
        }
      }
      if case .snapshotSent = instruction { followed.append("snapshot") }
      return .acknowledge
    }

    private static func listener(in namespace: NetworkNamespace, _ port: UInt16) throws -> SharedDescriptor {
      let socket = try namespace.enter { try TCPSocket.make(.v6) }
      try TCPSocket.setMark(socket.raw, 0x539)
      try TCPSocket.bind(socket.raw, .v6, to: SocketAddress(.any(.v6), port))
      try TCPSocket.listen(socket.raw, backlog: 8)
      return SharedDescriptor(socket)
    }
  }

  @Test("a workload nobody serves is pending, one that is served is proven; scripts see it by the exit status")
  func status() async throws {
    try await TestNetwork.with { network in
      let rig = try AgentRig(network.namespace("pod"))
      defer { rig.process.kill() }
      let pending = try rig.status()
      #expect(pending.status == 1)
      #expect(pending.output.contains("shop/web") && pending.output.contains("PENDING"))
      let socket = try rig.socket
      let statuses = try await onLoop { loop -> [CInt] in
        let ztunnel = Ztunnel(listens: true)
        let client = ZDSClient(path: socket, on: loop, handler: ztunnel)
        loop.spawn { await client.run() }
        var statuses: [CInt] = []
        _ = await loop.waitUntil {
          guard let result = try? rig.status() else { return false }
          statuses.append(result.status)
          return result.status == 0
        }
        client.stop()
        return statuses
      }
      #expect(statuses.last == 0)
      // A child that another test is just starting has copies of its listeners until it becomes its program.
      #expect(
        try eventually(within: .seconds(20)) { try rig.state() == "PENDING" },
        "ztunnel is gone, and so are its listeners")
      #expect(rig.process.terminate() == 0)
      let gone = try rig.status()
      #expect(gone.status == 2)
      #expect(gone.errors.contains("STATUS_NOT_REACHABLE"))
    }
  }

  @Test(
    "an agent that dies half-way leaves a workload untouched, fenced or captured, and the next one finishes",
    arguments: ["namespace-found", "fence-raised", "rules-without-capture", "rules-written", "fence-lowered"])
  func killed(at point: String) throws {
    try TestNetwork.with { network in
      let pod = try network.namespace("pod")
      let doomed = try AgentRig(pod, environment: ["AMBIENT_FAULTS": "die-at=\(point)"], until: nil)
      defer { doomed.process.kill() }
      #expect(doomed.process.waitForExit(within: .seconds(20)) == 128 + SIGKILL)
      func rules(_ arguments: String...) throws -> CommandResult {
        try Command.run([doomed.agent, "rules", "--netns", pod.path] + arguments)
      }
      let left = try rules().output
      #expect(try !left.contains("ISTIO") || left.contains("FENCE") || rules("--check").succeeded, "\(left)")
      let next = try AgentRig(pod)
      defer { next.process.kill() }
      #expect(try eventually { try rules("--check").succeeded && !rules().output.contains("FENCE") })
    }
  }

  @Test(
    "whatever somebody takes away is put back behind a fence that does not stay",
    arguments: [
      ["iptables-legacy", "-t", "nat", "-F"], ["ip6tables-legacy", "-t", "nat", "-F"],
      ["iptables-legacy", "-t", "mangle", "-F"], ["ip", "rule", "del", "pref", "32764"],
      ["ip", "-6", "route", "flush", "table", "100"],
    ])
  func repair(command: [String]) throws {
    try TestNetwork.with { network in
      let pod = try network.namespace("pod")
      let rig = try AgentRig(pod)
      defer { rig.process.kill() }
      try pod.mustRun(command)
      #expect(rig.process.waitForLine(containing: "redirection deviated") != nil)
      #expect(rig.process.waitForLine(containing: "the fence is down") != nil)
      #expect(try Command.run([rig.agent, "rules", "--netns", pod.path, "--check"]).status == 0)
      #expect(try !Command.run([rig.agent, "rules", "--netns", pod.path]).output.contains("FENCE"))
      #expect(try eventually { try rig.state() == "PENDING" })
    }
  }

  @Test("changes of routes are noticed without waiting for the timer")
  func noticed() throws {
    try TestNetwork.with { network in
      let pod = try network.namespace("pod")
      let rig = try AgentRig(pod, environment: ["AMBIENT_RECONCILE_INTERVAL": "1h"])
      defer { rig.process.kill() }
      try pod.mustRun(["ip", "rule", "del", "pref", "32764"])
      #expect(rig.process.waitForLine(containing: "redirection deviated") != nil)
      #expect(try eventually { try pod.mustRun(["ip", "rule"]).contains("32764") })
    }
  }

  @Test("a namespace that cannot be captured is fenced, and says so, until it can")
  func fenced() throws {
    try TestNetwork.with { network in
      let pod = try network.namespace("pod")
      try pod.ip(["link set lo down"])
      let rig = try AgentRig(pod)
      defer { rig.process.kill() }
      #expect(try rig.state() == "FENCED")
      #expect(try rig.status().output.contains("FENCED"))
      #expect(try pod.mustRun(["iptables-legacy", "-t", "mangle", "-S"]).contains("-A ISTIO_FENCE_OUT -j DROP"))
      try pod.ip(["link set lo up"])
      #expect(try eventually { try rig.state() == "PENDING" })
      #expect(try !pod.mustRun(["iptables-legacy", "-t", "mangle", "-S"]).contains("FENCE"))
    }
  }

  @Test("without fences it is not cut off, and called exposed")
  func exposed() throws {
    try TestNetwork.with { network in
      let pod = try network.namespace("pod")
      try pod.ip(["link set lo down"])
      let rig = try AgentRig(pod, environment: ["AMBIENT_FENCE": "false"])
      defer { rig.process.kill() }
      #expect(try rig.state() == "EXPOSED")
      #expect(try !pod.mustRun(["iptables-legacy", "-t", "mangle", "-S"]).contains("FENCE"))
    }
  }

  @Test("the control socket answers for scrapers, and nothing else")
  func metrics() throws {
    try TestNetwork.with { network in
      let rig = try AgentRig(network.namespace("pod"))
      defer { rig.process.kill() }
      let socket = rig.temporary.path + "/status.sock"
      let mode = try FileManager.default.attributesOfItem(atPath: socket)[.posixPermissions] as? Int
      #expect(mode == 0o600)
      func ask(_ request: String) throws -> String {
        let stream = try UnixSocketPath(socket).connectedStream(timeoutSeconds: 10)
        let bytes = Array("\(request) HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".utf8)
        _ = send(stream.raw, bytes, bytes.count, CInt(MSG_NOSIGNAL))
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
          let count = recv(stream.raw, &chunk, chunk.count, 0)
          guard count > 0 else { return String(decoding: answer, as: UTF8.self) }
          answer += chunk.prefix(count)
        }
      }
      let text = try ask("GET /metrics")
      #expect(text.contains("node_agent_workload_proofs{state=\"PENDING\"} 1\n"))
      #expect(text.contains("node_agent_escaped_packets_total 0\n"))
      #expect(try ask("GET /").hasPrefix("HTTP/1.1 404"))
      #expect(try ask("POST /status").hasPrefix("HTTP/1.1 405"))
      #expect(try ask("GET /status").hasPrefix("HTTP/1.1 503"))
    }
  }
}
