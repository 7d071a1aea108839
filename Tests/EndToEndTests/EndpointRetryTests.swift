import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@Suite("An endpoint that does not answer", .requires(.root, .command("ip"), .command("curl")))
struct EndpointRetryTests {
  private let vip = SocketAddress(.v4(0x0a60_000a), 80)

  @Test("outside of the mesh is replaced by another, and the log counts them")
  func plain() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let dead = try await mesh.pod("dead", on: mesh.right, inMesh: false)
      let alive = try await mesh.pod("alive", on: mesh.right, inMesh: false)
      try mesh.service("web", vip: "10.96.0.10", target: 8080, [dead, alive])
      let echo = try TCPServer(in: alive.pod, port: 8080, .echo)
      defer { echo.stop() }
      for _ in 0..<16 {
        let connection = try TCPClient(in: client.pod).connect(to: vip)
        #expect(try connection.exchange("hello") == "hello")
      }
      // Endpoints are chosen at random: one of the two is never first once in 32768 runs.
      let second = try #require(try mesh.left.ztunnel.waitForLine("complete", "endpoints_tried=2"))
      #expect(second.contains("dst.workload=\"alive\"") && !second.contains("error="))
      let lines = try mesh.left.ztunnel.lines.filter { $0.contains("complete") }
      #expect(lines.contains { !$0.contains("endpoints_tried") }, "one that answers at once is not counted")
      #expect(lines.allSatisfy { $0.contains("dst.workload=\"alive\"") }, "one line a connection")
    }
  }

  @Test("is followed by two others at most")
  func bound() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      var dead: [MeshPod] = []
      for index in 0..<5 { dead.append(try await mesh.pod("dead\(index)", on: mesh.right, inMesh: false)) }
      try mesh.service("web", vip: "10.96.0.10", target: 8080, dead)
      #expect(try TCPClient(in: client.pod).end(of: vip) == .reset)
      let line = try #require(try mesh.left.ztunnel.waitForLine("complete", "UPSTREAM_UNREACHABLE", "outbound"))
      #expect(line.contains("endpoints_tried=3"))
      #expect(try mesh.left.ztunnel.lines.count { $0.contains("connection opened") } == 3)
      #expect(try mesh.left.ztunnel.lines.count { $0.contains("endpoint given up for another") } == 2)
      try expectNothingOpen(mesh, attempts: 3)
    }
  }

  /// What is counted as opened is counted as closed, and no connection is in the list.
  private func expectNothingOpen(_ mesh: MeshFixture, attempts: Double) throws {
    let curl = try #require(Command.path(of: "curl"))
    func get(_ address: String) throws -> String {
      let process = try mesh.left.node.spawn([curl, "-s", "-m", "10", "http://127.0.0.1:\(address)"])
      _ = process.waitForExit(within: .seconds(20))
      return process.output
    }
    let dump = try #require(
      try JSONSerialization.jsonObject(with: Data(try get("15000/config_dump").utf8)) as? [String: Any])
    let state = try #require((dump["workloadState"] as? [String: [String: Any]])?["uid-client"])
    let connections = try #require(state["connections"] as? [String: [Any]])
    let open = connections.values.reduce(0) { $0 + $1.count }
    #expect(open == 0, "\(connections)")
    let metrics = try get("15020/stats/prometheus")
    func sum(_ name: String) -> Double {
      metrics.split(separator: "\n").filter { $0.hasPrefix(name) && $0.contains("reporter=\"source\"") }
        .compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }.reduce(0, +)
    }
    #expect(sum("istio_tcp_connections_opened_total{") == attempts)
    #expect(sum("istio_tcp_connections_closed_total{") == attempts)
  }

  @Test("because policy refuses is the answer: nobody else is asked")
  func denied() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let one = try await mesh.pod("one", on: mesh.right)
      let two = try await mesh.pod("two", on: mesh.right)
      try mesh.service("web", vip: "10.96.0.10", target: 8080, [one, two])
      try mesh.add(MeshPolicy(name: "none", action: .deny, matches: [MeshPolicy.from(client)]))
      #expect(try TCPClient(in: client.pod).end(of: vip) == .reset)
      let line = try #require(try mesh.left.ztunnel.waitForLine("PEER_DENIED"))
      #expect(!line.contains("endpoints_tried"))
    }
  }

  @Test("any more after the first byte is a broken connection: nobody else gets the rest")
  func afterFirstByte() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let one = try await mesh.pod("one", on: mesh.right)
      let two = try await mesh.pod("two", on: mesh.right)
      try mesh.service("web", vip: "10.96.0.10", target: 8080, [one, two])
      let servers = try [one, two].map { try TCPServer(in: $0.pod, port: 8080, .reset) }
      defer { for server in servers { server.stop() } }
      #expect(try TCPClient(in: client.pod).end(of: vip) == .reset)
      #expect(servers.reduce(0) { $0 + $1.peers.count } == 1)
    }
  }
}
