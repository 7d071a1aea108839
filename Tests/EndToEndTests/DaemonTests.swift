import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@Suite(
  "Node agent and ztunnel together",
  .requires(.root, .command("ip"), .command("iptables-legacy"), .command("iptables-legacy-save")),
  .timeLimit(.minutes(2)))
struct DaemonTests {
  private func connect(_ client: MeshPod, _ server: MeshPod) throws -> TCPConnection {
    try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
  }

  @Test("tunnel the traffic of what has a file, and leave alone what has none any more")
  func files() async throws {
    try await DaemonFixture.with { daemons in
      let mesh = daemons.mesh
      let client = try await daemons.pod("client", on: mesh.left)
      var server = try await daemons.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      #expect(try connect(client, server).exchange("hello") == "hello")
      #expect(try mesh.right.ztunnel.waitForLine("connection complete", "inbound", client.identity) != nil)

      let open = try connect(client, server)
      #expect(try open.exchange("hello") == "hello")
      try daemons.removeFile(of: "server", on: mesh.right)
      #expect(try daemons.agent(of: mesh.right).waitForLine("left the mesh", "uid-server") != nil)
      #expect(try open.end() == .reset)
      #expect(try !daemons.isRedirected(server))
      #expect(try eventually { try !server.pod.listeningPorts.contains(15008) })
      server = MeshPod(name: server.name, serviceAccount: server.serviceAccount, pod: server.pod, inMesh: false)
      try mesh.update(server)
      #expect(try connect(client, server).exchange("in the clear") == "in the clear")
    }
  }

  @Test("follow a file that changes: another uid, out of the mesh, and in again")
  func changes() async throws {
    try await DaemonFixture.with { daemons in
      let mesh = daemons.mesh
      let client = try await daemons.pod("client", on: mesh.left)
      let server = try await daemons.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      #expect(try connect(client, server).exchange("hello") == "hello")
      let agent = try daemons.agent(of: mesh.right)

      try daemons.write(daemons.description(of: server, uid: "uid-other"), for: "server", on: mesh.right)
      #expect(agent.waitForLine("enrolled", "uid-other") != nil)
      #expect(try daemons.isRedirected(server))
      #expect(try connect(client, server).exchange("hello") == "hello")

      try daemons.write(
        daemons.description(of: server, inMesh: false, uid: "uid-other"), for: "server", on: mesh.right)
      #expect(agent.waitForLine("left the mesh", "uid-other") != nil)
      #expect(try !daemons.isRedirected(server))
      #expect(try eventually { try !server.pod.listeningPorts.contains(15008) })

      try daemons.write(daemons.description(of: server), for: "server", on: mesh.right)
      #expect(try eventually(within: .seconds(10)) { try server.pod.listeningPorts.contains(15008) })
      #expect(try daemons.isRedirected(server))
      #expect(try connect(client, server).exchange("back") == "back")
    }
  }

  @Test("report a file with an error, and disturb nothing that runs")
  func badFile() async throws {
    try await DaemonFixture.with { daemons in
      let mesh = daemons.mesh
      let client = try await daemons.pod("client", on: mesh.left)
      let server = try await daemons.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let open = try connect(client, server)
      #expect(try open.exchange("hello") == "hello")
      let agent = try daemons.agent(of: mesh.right)

      try daemons.write("name: server\nnetns: [unfinished\n", for: "server", on: mesh.right)
      #expect(agent.waitForLine("WORKLOAD_FILE_NOT_YAML", "server.yaml") != nil)
      try daemons.write("name: typo\nnetnamespace: /run/netns/nowhere\n", for: "typo", on: mesh.right)
      let line = try #require(agent.waitForLine("WORKLOAD_FILE_UNKNOWN_KEY"))
      #expect(line.contains("typo.yaml:2") && line.contains("netnamespace"))
      let newcomer = try await daemons.pod("newcomer", on: mesh.right)
      #expect(try daemons.isRedirected(newcomer))

      #expect(try open.exchange("still here") == "still here")
      #expect(try connect(client, server).exchange("new") == "new")
      #expect(!agent.hasLine("left the mesh"))
      try daemons.write(daemons.description(of: server), for: "server", on: mesh.right)
      #expect(agent.waitForLine("corrected", "server.yaml") != nil)
      #expect(try open.exchange("still here") == "still here")
    }
  }

  @Test("enrol a namespace that appears after its file")
  func lateNamespace() async throws {
    try await DaemonFixture.with { daemons in
      let mesh = daemons.mesh
      let client = try await daemons.pod("client", on: mesh.left)
      let path = client.pod.place.path.dropLast("client".count) + "late"
      try daemons.write(
        "{name: late, namespace: demo, serviceAccount: late, netns: \(path), uid: uid-late}\n", for: "late",
        on: mesh.right)
      let agent = try daemons.agent(of: mesh.right)
      #expect(agent.waitForLine("waiting for namespace", "uid-late") != nil)
      let late = try await mesh.pod("late", on: mesh.right, enrolled: false)
      #expect(late.pod.place.path == path)
      #expect(agent.waitForLine("enrolled", "uid-late") != nil)
      let echo = try TCPServer(in: late.pod, port: 8080, .echo)
      defer { echo.stop() }
      #expect(try connect(client, late).exchange("hello") == "hello")
    }
  }

  @Test("survive a killed node agent: its successor writes no rule anew and cuts no connection")
  func agentKilled() async throws {
    try await DaemonFixture.with { daemons in
      let mesh = daemons.mesh
      let client = try await daemons.pod("client", on: mesh.left)
      let server = try await daemons.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let open = try connect(client, server)
      #expect(try open.exchange("hello") == "hello")
      let before = try [client, server].map { try $0.pod.countedRules }
      #expect(before[0].contains { $0.contains("15001") && !$0.hasPrefix("[0:") }, "the rules have counted something")

      for node in [mesh.left, mesh.right] {
        try daemons.agent(of: node).kill()
        #expect(try node.ztunnel.waitForLine("lost the node agent") != nil)
      }
      #expect(try open.exchange("still here") == "still here")
      for node in [mesh.left, mesh.right] {
        let successor = try daemons.startAgent(on: node)
        #expect(successor.waitForLine("has the whole snapshot") != nil)
        #expect(!successor.hasLine("redirection written"))
      }
      let after = try [client, server].map { try $0.pod.countedRules }
      for (old, new) in zip(before, after) { #expect(new.difference(from: old).isEmpty) }
      #expect(try open.exchange("still here") == "still here")
      #expect(try connect(client, server).exchange("new") == "new")
      for node in [mesh.left, mesh.right] { #expect(try !node.ztunnel.hasLine("pod is no longer served")) }
    }
  }

  @Test("survive a killed ztunnel: its successor learns every pod, and no rule is written anew")
  func ztunnelKilled() async throws {
    try await DaemonFixture.with { daemons in
      let mesh = daemons.mesh
      let client = try await daemons.pod("client", on: mesh.left)
      let server = try await daemons.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      #expect(try connect(client, server).exchange("hello") == "hello")
      let process = try mesh.left.ztunnel
      process.kill()
      #expect(process.waitForExit(within: .seconds(10)) != nil)
      let before = try client.pod.countedRules
      try mesh.startZtunnel(on: mesh.left)
      #expect(try mesh.left.ztunnel.waitForLine("pod is served") != nil)
      #expect(try client.pod.countedRules == before)
      #expect(try connect(client, server).exchange("hello again") == "hello again")
    }
  }

  @Test("repair rules that were flushed, and name what was missing")
  func drift() async throws {
    try await DaemonFixture.with { daemons in
      let mesh = daemons.mesh
      let client = try await daemons.pod("client", on: mesh.left)
      let server = try await daemons.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let open = try connect(client, server)
      #expect(try open.exchange("hello") == "hello")
      try client.pod.mustRun(["iptables-legacy", "-t", "nat", "-F"])
      #expect(try daemons.agent(of: mesh.left).waitForLine("redirection deviated", "uid-client") != nil)
      #expect(
        try eventually(within: .seconds(10)) {
          try client.pod.mustRun(["iptables-legacy-save", "-t", "nat"]).contains("--to-ports 15001")
        })
      #expect(try open.exchange("still here") == "still here")
      #expect(try connect(client, server).exchange("hello again") == "hello again")
      #expect(echo.peers.count == 2)
      let captured = try eventually(within: .seconds(10)) {
        try mesh.left.ztunnel.lines.count { $0.contains("connection opened") } == 2
      }
      #expect(captured, "both were captured")
    }
  }
}
