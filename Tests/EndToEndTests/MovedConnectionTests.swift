import Foundation
import TestSupport
import Testing
import Vocabulary

/// Connections that ztunnel carries as they are outlive it: the next one goes on with them.
@Suite("Plain connections", .requires(.root, .command("ip"), .command("iptables-legacy")), .timeLimit(.minutes(2)))
struct MovedConnectionTests {
  /// Longer than any test waits: what ends before has not waited for it.
  private static let patient = ["CONNECTION_TERMINATION_DEADLINE": "60s"]

  /// A pod of the mesh on the left and a host outside of it, with an echo each.
  private struct Scene {
    let mesh: MeshFixture
    let inside: MeshPod
    let outside: MeshPod

    static func play(
      environment: [String: String] = patient, _ body: (Scene) async throws -> Void
    ) async throws {
      try await MeshFixture.with(environment: environment) { mesh in
        let inside = try await mesh.pod("inside", on: mesh.left)
        let outside = try await mesh.pod("outside", on: mesh.right, inMesh: false)
        let echoes = try [inside, outside].map { try TCPServer(in: $0.pod, port: 8080, .echo) }
        defer { echoes.forEach { $0.stop() } }
        try await body(Scene(mesh: mesh, inside: inside, outside: outside))
      }
    }

    /// One from inside to outside, and one the other way.
    func connect(_ family: IPAddress.Family = .v4) throws -> [TCPConnection] {
      try [(inside, outside), (outside, inside)].map { client, server in
        try TCPClient(in: client.pod).connect(to: server.address(family, port: 8080))
      }
    }

    /// Ends the left proxy, which has nothing to wait for.
    func end() throws {
      let process = try mesh.left.ztunnel
      process.signal(SIGTERM)
      #expect(process.waitForExit(within: .seconds(20)) == 0)
    }
  }

  @Test("outlive a restart, and what is sent meanwhile arrives", arguments: [IPAddress.Family.v4, .v6])
  func restart(family: IPAddress.Family) async throws {
    try await Scene.play { scene in
      let connections = try scene.connect(family)
      for connection in connections { #expect(try connection.exchange("before") == "before") }
      let first = try scene.mesh.left.ztunnel
      try scene.end()
      #expect(first.hasLine("connections are left to the next ztunnel"))
      #expect(!first.hasLine("connection complete"), "they are not over")
      for connection in connections { try connection.send("while nobody was there") }
      let second = try scene.mesh.startZtunnel(on: scene.mesh.left, Self.patient)
      for connection in connections {
        #expect(try connection.receive(22, timeout: .seconds(20)) == Array("while nobody was there".utf8))
        #expect(try connection.exchange("after") == "after")
        try connection.finishSending()
        #expect(try connection.receiveToEnd().isEmpty)
      }
      for direction in ["inbound", "outbound"] {
        let line = second.waitForLine(
          "connection complete", "direction=\"\(direction)\" bytes_sent=33 bytes_recv=33", "src.workload=",
          "dst.workload=")
        #expect(line != nil, "the whole connection has one line")
      }
    }
  }

  @Test("go on in the newer of two, and the older need not wait for their end")
  func upgrade() async throws {
    try await Scene.play { scene in
      let connections = try scene.connect()
      for connection in connections { #expect(try connection.exchange("before") == "before") }
      let first = try scene.mesh.left.ztunnel
      try scene.mesh.startZtunnel(on: scene.mesh.left, Self.patient)
      #expect(first.waitForLine("another ztunnel has taken over", within: .seconds(20)) != nil)
      for connection in connections { #expect(try connection.exchange("beside") == "beside") }
      first.signal(SIGTERM)
      #expect(first.waitForExit(within: .seconds(20)) == 0)
      for connection in connections { #expect(try connection.exchange("after") == "after") }
    }
  }

  @Test("in the midst of much traffic lose nothing, over several restarts")
  func bulk() async throws {
    try await Scene.play { scene in
      let connections = try scene.connect()
      let size = 96 << 20
      async let echoed: Void = withThrowingTaskGroup(of: Void.self) { group in
        for connection in connections {
          group.addTask {
            try await withCheckedThrowingContinuation { continuation in
              Thread.detachNewThread {
                continuation.resume(with: Result { try connection.echoPattern(size, timeout: .seconds(60)) })
              }
            }
          }
        }
        try await group.waitForAll()
      }
      for _ in 0..<3 {
        try await Task.sleep(for: .milliseconds(50))
        let process = try scene.mesh.left.ztunnel
        try scene.end()
        #expect(process.hasLine("connections are left to the next ztunnel"))
        let next = try scene.mesh.startZtunnel(on: scene.mesh.left, Self.patient)
        #expect(next.waitForLine("pod is served", within: .seconds(20)) != nil)
      }
      try await echoed
      for connection in connections {
        try connection.finishSending()
        #expect(try connection.receiveToEnd().isEmpty)
      }
      for direction in ["inbound", "outbound"] {
        let line = try scene.mesh.left.ztunnel.waitForLine(
          "connection complete", "direction=\"\(direction)\" bytes_sent=\(size) bytes_recv=\(size)")
        #expect(line != nil)
      }
    }
  }

  @Test("are moved at the deadline, when tunnels that cannot be moved are cut")
  func deadline() async throws {
    let environment = ["CONNECTION_TERMINATION_DEADLINE": "3s"]
    try await Scene.play(environment: environment) { scene in
      let peer = try await scene.mesh.pod("peer", on: scene.mesh.right)
      let echo = try TCPServer(in: peer.pod, port: 8080, .echo)
      defer { echo.stop() }
      let tunnelled = try TCPClient(in: scene.inside.pod).connect(to: peer.address(port: 8080))
      let connections = try scene.connect()
      for connection in connections + [tunnelled] { #expect(try connection.exchange("before") == "before") }
      try scene.end()
      #expect(try tunnelled.end() == .reset)
      try scene.mesh.startZtunnel(on: scene.mesh.left, environment)
      for connection in connections {
        #expect(try connection.exchange("after", timeout: .seconds(20)) == "after")
      }
    }
  }

  @Test("are held against the policy that the next one finds")
  func policy() async throws {
    try await Scene.play { scene in
      let connections = try scene.connect()
      for connection in connections { #expect(try connection.exchange("before") == "before") }
      try scene.end()
      try scene.mesh.add(MeshPolicy(name: "nobody", action: .deny, matches: ["destinationPorts: [8080]"]))
      let next = try scene.mesh.startZtunnel(on: scene.mesh.left, Self.patient)
      #expect(try connections[1].end() == .reset)
      #expect(next.waitForLine("connection complete", "inbound", "error_code=") != nil)
      #expect(try connections[0].exchange("after", timeout: .seconds(20)) == "after", "outbound it is not asked")
    }
  }

  @Test("end with their pod, also while nobody serves it")
  func removal() async throws {
    try await Scene.play { scene in
      let connections = try scene.connect()
      for connection in connections { #expect(try connection.exchange("before") == "before") }
      try scene.end()
      try await scene.mesh.left.agent.remove(scene.inside, keepingRules: true)
      for connection in connections { #expect(try connection.end() == .reset) }
      let next = try scene.mesh.startZtunnel(on: scene.mesh.left, Self.patient)
      #expect(next.waitForLine("connected to the node agent", within: .seconds(20)) != nil)
    }
  }
}
