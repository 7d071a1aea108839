import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

/// Something that happens to a mesh in operation.
enum Disturbance: String, CaseIterable, Sendable {
  case terminated = "ztunnel: SIGTERM, restart"
  case restarted = "ztunnel: restart as shipped, 25 s"
  case killed = "ztunnel: SIGKILL, restart"
  case upgraded = "ztunnel: upgrade with overlap"
  case agentTerminated = "node-agent: SIGTERM, restart"
  case agentKilled = "node-agent: SIGKILL, restart"
  case meshFileBroken = "mesh description broken, repaired"
  case rulesFlushed = "nat flushed, both families"
  case tablesFlushed = "nat and mangle flushed"
  case descriptorsShort = "ztunnel: no descriptors left"
  case workerStalled = "ztunnel: a worker stalls"

  /// All, or those whose name holds `AMBIENT_DISTURB_ONLY`.
  static let chosen = allCases.filter { one in
    ProcessInfo.processInfo.environment["AMBIENT_DISTURB_ONLY"].map { one.rawValue.contains($0) } ?? true
  }

  /// Whether connections that are open may be cut. Without marks the application's answers leave past ztunnel until the
  /// rules are back, and whoever gets them resets the connection.
  var mayBreakLive: Bool { [.terminated, .restarted, .killed, .tablesFlushed, .workerStalled].contains(self) }

  /// Of the proxies, beside the ordinary one.
  var environment: [String: String] {
    let deadline =
      switch self {
      // Of the old one in an upgrade: its clients end before.
      case .upgraded: "60s"
      // What the unit's TERMINATION_GRACE_PERIOD_SECONDS=30 makes of it.
      case .restarted: "25s"
      default: "4s"
      }
    return ["CONNECTION_TERMINATION_DEADLINE": deadline, "AMBIENT_FAULTS": "stall-worker"]
  }
}

/// The zero-loss gate: ordinary clients, one disturbance after another, and what they noticed. `AMBIENT_DISTURB_ROUNDS`
/// says how often each happens; `scripts/disturb` prints the table, from the file that `AMBIENT_DISTURB_REPORT` names.
@Suite(
  "Disturbed", .serialized, .requires(.root, .command("ip"), .command("iptables-legacy"), .command("prlimit")),
  .timeLimit(.minutes(15)))
struct DisturbTests {
  private static let rounds =
    ProcessInfo.processInfo.environment["AMBIENT_DISTURB_ROUNDS"].flatMap { Int($0) } ?? 2

  @Test("ordinary clients lose nothing that can be kept", arguments: Disturbance.chosen)
  func disturbed(by disturbance: Disturbance) async throws {
    var tally = DisturbTally()
    try await DaemonFixture.with(environment: disturbance.environment) { daemons in
      let client = try await daemons.pod("client", on: daemons.mesh.left)
      let server = try await daemons.pod("server", on: daemons.mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      for round in 0..<Self.rounds {
        // Without descriptors no tunnel can be accepted: those of the round before must serve, and they are of one family.
        let family = disturbance == .descriptorsShort ? .v4 : Self.family(of: round)
        let address = server.address(family, port: 8080)
        // Outbound and inbound side in turn.
        let node = round.isMultiple(of: 2) ? daemons.mesh.left : daemons.mesh.right
        let pod = round.isMultiple(of: 2) ? client : server
        let noticed = try await endure(disturbance, on: node, pod, daemons, connecting: client, to: address)
        tally.add(noticed)
        if noticed.failedNew > 0 {
          let side = round.isMultiple(of: 2) ? "client" : "server"
          print("disturb-reason|\(disturbance.rawValue)|round \(round), \(family), \(side)'s side")
          explain(disturbance, daemons)
        }
      }
    }
    report(tally, of: disturbance.rawValue, mayBreakLive: disturbance.mayBreakLive)
  }

  @Test("a restart loses nothing between two pods of one node, whose both ends stop at once")
  func oneNode() async throws {
    var tally = DisturbTally()
    try await DaemonFixture.with(environment: Disturbance.terminated.environment) { daemons in
      let node = daemons.mesh.left
      let client = try await daemons.pod("client", on: node)
      let server = try await daemons.pod("server", on: node)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      for _ in 0..<Self.rounds {
        tally.add(
          try await endure(.terminated, on: node, client, daemons, connecting: client, to: server.address(port: 8080)))
      }
    }
    report(tally, of: "both pods of one ztunnel: SIGTERM, restart", mayBreakLive: true)
  }

  @Test(
    "plain connections, in and out, outlive whatever ends in order",
    arguments: [Disturbance.terminated, .restarted, .upgraded].filter(Disturbance.chosen.contains))
  func plain(disturbance: Disturbance) async throws {
    var tally = DisturbTally()
    try await DaemonFixture.with(environment: disturbance.environment) { daemons in
      let node = daemons.mesh.left
      let inside = try await daemons.pod("inside", on: node)
      let outside = try await daemons.mesh.pod("outside", on: daemons.mesh.right, inMesh: false)
      let echoes = try [inside, outside].map { try TCPServer(in: $0.pod, port: 8080, .echo) }
      defer { echoes.forEach { $0.stop() } }
      for round in 0..<Self.rounds {
        let (client, server) = round.isMultiple(of: 2) ? (inside, outside) : (outside, inside)
        let address = server.address(Self.family(of: round), port: 8080)
        tally.add(try await endure(disturbance, on: node, inside, daemons, connecting: client, to: address))
      }
    }
    report(tally, of: "plain: \(disturbance.rawValue)", mayBreakLive: false)
  }

  @Test("the control plane may be away: nobody notices", .requires(.grpc))
  func controlPlaneAway() async throws {
    var tally = DisturbTally()
    try await ControlPlaneFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      for round in 0..<Self.rounds {
        let address = server.address(port: 8080)
        let load = DisturbLoad { try TCPClient(in: client.pod).connect(to: address) }
        let losses = { (0...1).map { mesh.ztunnel($0).lines.count { $0.contains("control plane's stream ended") } } }
        let before = losses()
        load.disturb()
        try mesh.stopControlPlane()
        let lost = eventually(within: .seconds(20)) { zip(losses(), before).allSatisfy { $0 > $1 } }
        #expect(lost, "both proxies notice")
        let served = load.servedSince
        #expect(eventually(within: .seconds(30)) { load.servedSince >= served + 50 }, "it is not missed")
        try mesh.startControlPlane()
        // A change that both proxies answer to: the conversation goes on.
        let unused = try #require(IPAddress("10.96.7.\(round + 1)"))
        try mesh.service("round-\(round).demo.svc.cluster.local", at: unused, target: 8080)
        #expect(eventually(within: .seconds(30)) { load.servedSince >= served + 70 })
        tally.add(load.stop())
      }
    }
    report(tally, of: "control plane and CA away", mayBreakLive: false)
  }

  /// Prints why the proxies let connections fail.
  private func explain(_ disturbance: Disturbance, _ daemons: DaemonFixture) {
    for (name, node) in [("left", daemons.mesh.left), ("right", daemons.mesh.right)] {
      let lines = (try? node.ztunnel.lines) ?? []
      for line in lines.filter({ $0.contains("error_code=") }).suffix(5) {
        print("disturb-reason|\(disturbance.rawValue)|\(name): \(line)")
      }
    }
  }

  /// Prints what clients noticed, and holds it to the limits.
  private func report(_ tally: DisturbTally, of name: String, mayBreakLive: Bool) {
    let row =
      "disturb|\(name)|\(Self.rounds)|\(tally.newConnections)|\(tally.failedNew)|\(tally.liveConnections)"
      + "|\(tally.brokenLive)|\(tally.lostBytes)|\(tally.longestStall / .milliseconds(1))"
    print(row)
    for reason in tally.reasons { print("disturb-reason|\(name)|\(reason)") }
    // What is printed may come only when all is over.
    if let path = ProcessInfo.processInfo.environment["AMBIENT_DISTURB_REPORT"],
      let file = FileHandle(forWritingAtPath: path)
    {
      file.seekToEndOfFile()
      file.write(Data((row + "\n").utf8))
    }
    #expect(tally.failedNew == 0, "\(tally.reasons)")
    if !mayBreakLive {
      #expect(tally.brokenLive == 0, "\(tally.reasons)")
      #expect(tally.lostBytes == 0)
    }
  }

  /// What clients in `client` noticed of a disturbance.
  private func endure(
    _ disturbance: Disturbance, on node: MeshFixture.MeshNode, _ pod: MeshPod, _ daemons: DaemonFixture,
    connecting client: MeshPod, to address: SocketAddress
  ) async throws -> DisturbTally {
    let load = DisturbLoad { try TCPClient(in: client.pod).connect(to: address) }
    try await perform(disturbance, on: node, pod, daemons, disturbance.environment, load)
    // Longer than a client waits on a connection that the disturbance has left without an end, before it opens the next.
    #expect(eventually(within: .seconds(60)) { load.servedSince >= 20 }, "new connections are served afterwards")
    let noticed = load.stop()
    if disturbance == .upgraded {
      #expect(daemons.predecessors.allSatisfy { $0.waitForExit(within: .seconds(30)) == 0 })
    }
    return noticed
  }

  /// In four rounds of two sides in turn every side has either family.
  private static func family(of round: Int) -> IPAddress.Family { [.v4, .v6, .v6, .v4][round % 4] }

  private func perform(
    _ disturbance: Disturbance, on node: MeshFixture.MeshNode, _ pod: MeshPod, _ daemons: DaemonFixture,
    _ environment: [String: String], _ load: DisturbLoad
  ) async throws {
    let mesh = daemons.mesh
    let process = try node.ztunnel
    switch disturbance {
    case .terminated, .restarted:
      process.signal(SIGTERM)
      load.disturb()
      #expect(process.waitForExit(within: .seconds(40)) == 0)
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
    case .rulesFlushed, .tablesFlushed:
      let repairs = try repairs(of: node, daemons)
      for command in ["iptables-legacy", "ip6tables-legacy"] {
        for table in disturbance == .rulesFlushed ? ["nat"] : ["mangle", "nat"] {
          try pod.pod.mustRun([command, "-t", table, "-F"])
        }
      }
      // What was begun before may have lost its marks, and with them its way back.
      load.disturb()
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

    process.signal(SIGUSR2)
    // Until the worker is stuck it may still accept.
    usleep(200_000)
    load.disturb()
    let isSilent = eventually(within: .seconds(20)) { (manager.lastSign.map { .now - $0 > limit }) ?? false }
    #expect(isSilent, "no sign of life once a worker is stuck")
    process.kill()
    load.processDied()
    #expect(process.waitForExit(within: .seconds(20)) != nil)
    #expect(process.hasLine("WORKER_STALLED"))
    try daemons.mesh.startZtunnel(on: node, environment)
  }
}
