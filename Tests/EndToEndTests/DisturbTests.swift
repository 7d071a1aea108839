import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

/// Something that happens to a mesh in operation.
enum Disturbance: String, CaseIterable, Sendable {
  case terminated = "ztunnel: SIGTERM, restart"
  case killed = "ztunnel: SIGKILL, restart"
  case upgraded = "ztunnel: upgrade with overlap"
  case agentTerminated = "node-agent: SIGTERM, restart"
  case agentKilled = "node-agent: SIGKILL, restart"
  case meshFileBroken = "mesh description broken, repaired"
  case rulesFlushed = "rules flushed"
  case descriptorsShort = "ztunnel: no descriptors left"
  case workerStalled = "ztunnel: a worker stalls"

  /// Whether connections that are open may be cut.
  var mayBreakLive: Bool { [.terminated, .killed, .workerStalled].contains(self) }
}

/// The zero-loss gate: ordinary clients, one disturbance after another, and what they noticed. `AMBIENT_DISTURB_ROUNDS`
/// says how often each happens; `scripts/disturb` prints the table.
@Suite(
  "Disturbed", .serialized, .requires(.root, .command("ip"), .command("iptables-legacy"), .command("prlimit")),
  .timeLimit(.minutes(15)))
struct DisturbTests {
  private static let rounds =
    ProcessInfo.processInfo.environment["AMBIENT_DISTURB_ROUNDS"].flatMap { Int($0) } ?? 2
  private static let environment = ["CONNECTION_TERMINATION_DEADLINE": "1s", "AMBIENT_FAULTS": "stall-worker"]
  /// Of the old one in an upgrade: its clients end before.
  private static let upgradeEnvironment = ["CONNECTION_TERMINATION_DEADLINE": "60s"]

  @Test("ordinary clients lose nothing that can be kept", arguments: Disturbance.allCases)
  func disturbed(by disturbance: Disturbance) async throws {
    var tally = DisturbTally()
    let environment = disturbance == .upgraded ? Self.upgradeEnvironment : Self.environment
    try await DaemonFixture.with(environment: environment) { daemons in
      let client = try await daemons.pod("client", on: daemons.mesh.left)
      let server = try await daemons.pod("server", on: daemons.mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      for round in 0..<Self.rounds {
        let address = server.address(port: 8080)
        let load = DisturbLoad { try TCPClient(in: client.pod).connect(to: address) }
        // Outbound and inbound side in turn.
        let node = round.isMultiple(of: 2) ? daemons.mesh.left : daemons.mesh.right
        let pod = round.isMultiple(of: 2) ? client : server
        try await perform(disturbance, on: node, pod, daemons, environment, load)
        #expect(eventually(within: .seconds(30)) { load.servedSince >= 20 }, "new connections are served afterwards")
        tally.add(load.stop())
        if disturbance == .upgraded {
          #expect(daemons.predecessors.allSatisfy { $0.waitForExit(within: .seconds(30)) == 0 })
        }
      }
    }
    print(
      "disturb|\(disturbance.rawValue)|\(Self.rounds)|\(tally.newConnections)|\(tally.failedNew)|\(tally.liveConnections)"
        + "|\(tally.brokenLive)|\(tally.lostBytes)|\(tally.longestStall / .milliseconds(1))")
    for reason in tally.reasons { print("disturb-reason|\(disturbance.rawValue)|\(reason)") }
    #expect(tally.failedNew == 0, "\(tally.reasons)")
    if !disturbance.mayBreakLive {
      #expect(tally.brokenLive == 0, "\(tally.reasons)")
      #expect(tally.lostBytes == 0)
    }
  }

  private func perform(
    _ disturbance: Disturbance, on node: MeshFixture.MeshNode, _ pod: MeshPod, _ daemons: DaemonFixture,
    _ environment: [String: String], _ load: DisturbLoad
  ) async throws {
    let mesh = daemons.mesh
    let process = try node.ztunnel
    switch disturbance {
    case .terminated:
      process.signal(SIGTERM)
      load.disturb()
      #expect(process.waitForExit(within: .seconds(20)) == 0)
      try mesh.startZtunnel(on: node, environment)
    case .killed:
      process.kill()
      load.disturb()
      load.processDied()
      #expect(process.waitForExit(within: .seconds(20)) != nil)
      try mesh.startZtunnel(on: node, environment)
    case .upgraded:
      load.disturb()
      try mesh.startZtunnel(on: node, environment)
      #expect(process.waitForLine("another ztunnel has taken over", within: .seconds(20)) != nil)
      process.signal(SIGTERM)
      #expect(process.waitForLine("shutting down") != nil)
      daemons.remember(predecessor: process)
    case .agentTerminated, .agentKilled:
      let agent = try daemons.agent(of: node)
      load.disturb()
      if disturbance == .agentKilled { agent.kill() } else { agent.signal(SIGTERM) }
      #expect(agent.waitForExit(within: .seconds(20)) != nil)
      let successor = try daemons.startAgent(on: node)
      #expect(successor.waitForLine("has the whole snapshot", within: .seconds(20)) != nil)
    case .meshFileBroken:
      load.disturb()
      let good = try String(contentsOfFile: mesh.meshFile, encoding: .utf8)
      try "workloads: [broken".write(toFile: mesh.meshFile, atomically: true, encoding: .utf8)
      #expect(process.waitForLine("the last good version stays in force", within: .seconds(20)) != nil)
      try good.write(toFile: mesh.meshFile, atomically: true, encoding: .utf8)
      #expect(process.waitForLine("mesh file is valid again", within: .seconds(20)) != nil)
    case .rulesFlushed:
      load.disturb()
      let repairs = try repairs(of: node, daemons)
      try pod.pod.mustRun(["iptables-legacy", "-t", "nat", "-F"])
      let isRepaired = try eventually(within: .seconds(20)) { try self.repairs(of: node, daemons) > repairs }
      #expect(isRepaired)
    case .descriptorsShort:
      let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process.pid)/fd").count
      let limits = try String(contentsOfFile: "/proc/\(process.pid)/limits", encoding: .utf8)
      let hard = limits.split(separator: "\n").first { $0.hasPrefix("Max open files") }
        .flatMap { $0.split(separator: " ").dropFirst(4).first }
      load.disturb()
      // Below a limit of 8 nothing is ever free, whatever connections come and go: nothing can be accepted.
      let limit = node === mesh.left ? 8 : max(8, open - 6)
      try Command.mustRun(["prlimit", "--pid", "\(process.pid)", "--nofile=\(limit):"])
      if node === mesh.left {
        #expect(process.waitForLine("cannot accept connections for now", within: .seconds(20)) != nil)
      } else {
        // The inbound side accepts tunnels, which are there already; its connections to the application go on.
        let isServing = eventually(within: .seconds(20)) { load.servedSince >= 50 }
        #expect(isServing)
      }
      try Command.mustRun(["prlimit", "--pid", "\(process.pid)", "--nofile=\(try #require(hard)):"])
    case .workerStalled:
      try await stall(node, daemons, environment, load)
    }
  }

  private func repairs(of node: MeshFixture.MeshNode, _ daemons: DaemonFixture) throws -> Int {
    try daemons.agent(of: node).lines.count { $0.contains("redirection written") }
  }

  /// Plays the service manager: a process that gives no sign of life in time is killed, and started again.
  private func stall(
    _ node: MeshFixture.MeshNode, _ daemons: DaemonFixture, _ environment: [String: String], _ load: DisturbLoad
  ) async throws {
    let manager = try NotifySocket(path: "\(daemons.mesh.directory)/notify-\(UUID().uuidString.prefix(8))")
    let limit = Duration.seconds(2)
    var watched = environment
    watched["NOTIFY_SOCKET"] = manager.path
    watched["WATCHDOG_USEC"] = "2000000"
    // The one that is watched takes over first, as in an upgrade.
    let before = try node.ztunnel
    let process = try daemons.mesh.startZtunnel(on: node, watched)
    #expect(before.waitForLine("another ztunnel has taken over", within: .seconds(20)) != nil)
    before.signal(SIGTERM)
    #expect(before.waitForExit(within: .seconds(20)) == 0)
    let isAlive = eventually(within: .seconds(20)) { (manager.lastSign.map { .now - $0 < limit / 2 }) ?? false }
    #expect(isAlive)

    load.disturb()
    process.signal(SIGUSR2)
    let isSilent = eventually(within: .seconds(20)) { (manager.lastSign.map { .now - $0 > limit }) ?? false }
    #expect(isSilent, "no sign of life once a worker is stuck")
    process.kill()
    load.processDied()
    #expect(process.waitForExit(within: .seconds(20)) != nil)
    #expect(process.hasLine("WORKER_STALLED"))
    try daemons.mesh.startZtunnel(on: node, environment)
  }
}
