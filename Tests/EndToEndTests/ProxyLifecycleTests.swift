import Foundation
import Linux
import Synchronization
import TestSupport
import Testing
import Vocabulary

@Suite("Ztunnel", .requires(.root, .command("ip"), .command("ss")), .timeLimit(.minutes(2)))
struct ProxyLifecycleTests {
  private struct Setting {
    let client: MeshPod
    let server: MeshPod
    let echo: TCPServer

    init(_ mesh: MeshFixture) async throws {
      client = try await mesh.pod("client", on: mesh.left)
      server = try await mesh.pod("server", on: mesh.right)
      echo = try TCPServer(in: server.pod, port: 8080, .echo)
    }

    func connect() throws -> TCPConnection {
      try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
    }
  }

  // MARK: Ends

  @Test(
    "killed lets nothing out in the clear; what connects meanwhile waits and is served by the next one",
    .requires(.command("iptables-legacy-save")))
  func killed() async throws {
    try await MeshFixture.with { mesh in
      let setting = try await Setting(mesh)
      let open = try setting.connect()
      #expect(try open.exchange("hello") == "hello")
      let process = try mesh.left.ztunnel
      process.kill()
      #expect(process.waitForExit(within: .seconds(10)) != nil)
      // The kernel closes what the process had: in order where nothing was left unread.
      #expect(try open.end() != .none)
      let waiting = try (0..<20).map { _ in try setting.connect() }
      for (index, connection) in waiting.enumerated() { try connection.send("waiting \(index)") }
      let before = try setting.client.pod.countedRules
      #expect(before.contains { $0.contains("15001") && !$0.hasPrefix("[0:") }, "the rules have counted something")
      #expect(setting.echo.peers.count == 1, "nothing arrived without a proxy")

      try mesh.startZtunnel(on: mesh.left)
      #expect(mesh.left.agent.hasSentSnapshots(2))
      #expect(try setting.client.pod.countedRules == before)
      for (index, connection) in waiting.enumerated() {
        let word = Array("waiting \(index)".utf8)
        #expect(try connection.receive(word.count) == word)
      }
      #expect(try mesh.left.ztunnel.waitForLine("pod is served", "adopted=\"") != nil)
      #expect(try setting.connect().exchange("hello again") == "hello again")
    }
  }

  @Test("killed on the server's side is waited for by the client's, and found again")
  func peerKilled() async throws {
    try await MeshFixture.with { mesh in
      let setting = try await Setting(mesh)
      let open = try setting.connect()
      #expect(try open.exchange("hello") == "hello")
      let process = try mesh.right.ztunnel
      process.kill()
      #expect(process.waitForExit(within: .seconds(10)) != nil)
      #expect(try open.end() == .reset)
      let waiting = try setting.connect()
      try waiting.send("waiting")
      try mesh.startZtunnel(on: mesh.right)
      #expect(try waiting.receive(7) == Array("waiting".utf8))
      #expect(mesh.right.agent.hasSentSnapshots(2))
      #expect(try setting.connect().exchange("hello again") == "hello again")
    }
  }

  @Test(
    "asked to end leaves new connections to its successor, lets open ones finish, and then exits with 0",
    arguments: ["left", "right"])
  func drains(side: String) async throws {
    try await MeshFixture.with(environment: ["CONNECTION_TERMINATION_DEADLINE": "30s"]) { mesh in
      let setting = try await Setting(mesh)
      let open = try setting.connect()
      #expect(try open.exchange("hello") == "hello")
      let node = side == "left" ? mesh.left : mesh.right
      let process = try node.ztunnel
      process.signal(SIGTERM)
      #expect(process.waitForLine("shutting down") != nil)
      let waiting = try setting.connect()
      try waiting.send("waiting")
      try mesh.startZtunnel(on: node, ["CONNECTION_TERMINATION_DEADLINE": "30s"])
      #expect(try waiting.receive(7) == Array("waiting".utf8))
      try waiting.finishSending()
      #expect(try waiting.receiveToEnd().isEmpty)
      #expect(process.isRunning)
      #expect(try open.exchange("still here") == "still here")
      try open.finishSending()
      #expect(try open.receiveToEnd().isEmpty)
      #expect(process.waitForExit(within: .seconds(10)) == 0)
      #expect(!process.hasLine("connection complete", "error="), "an end in order is no error")
    }
  }

  @Test("asked to end cuts what is still open at the deadline, says so, and exits with 0")
  func deadline() async throws {
    try await MeshFixture.with(environment: ["CONNECTION_TERMINATION_DEADLINE": "1s"]) { mesh in
      let setting = try await Setting(mesh)
      let open = try setting.connect()
      #expect(try open.exchange("hello") == "hello")
      let process = try mesh.left.ztunnel
      process.signal(SIGTERM)
      #expect(try open.end() == .reset)
      #expect(process.waitForExit(within: .seconds(10)) == 0)
      let line = try #require(process.waitForLine("connection complete", "DRAINED"))
      #expect(line.contains("connection closed due to connection drain"))
    }
  }

  // MARK: Two at once

  @Test("replaced while it runs loses no new connection", arguments: ["left", "right"])
  func overlap(side: String) async throws {
    try await MeshFixture.with { mesh in
      let setting = try await Setting(mesh)
      let node = side == "left" ? mesh.left : mesh.right
      let load = Load { try setting.connect() }
      defer { load.stop() }
      #expect(eventually { load.succeeded > 20 })
      let first = try node.ztunnel
      try mesh.startZtunnel(on: node)
      #expect(node.agent.hasSentSnapshots(2))
      #expect(try node.ztunnel.waitForLine("pod is served") != nil)
      let overlapped = load.succeeded
      #expect(eventually(within: .seconds(10)) { load.succeeded > overlapped + 50 })
      first.signal(SIGTERM)
      #expect(first.waitForExit(within: .seconds(10)) == 0)
      let alone = load.succeeded
      #expect(eventually(within: .seconds(10)) { load.succeeded > alone + 50 })
      load.stop()
      #expect(load.failures == [])
    }
  }

  // MARK: The node agent's socket

  @Test("goes on serving while the node agent is away, and takes it back when it returns")
  func agentRestarts() async throws {
    try await MeshFixture.with { mesh in
      let setting = try await Setting(mesh)
      let open = try setting.connect()
      #expect(try open.exchange("hello") == "hello")
      for node in [mesh.left, mesh.right] {
        try await node.agent.stop()
        #expect(try node.ztunnel.waitForLine("lost the node agent") != nil)
      }
      #expect(try open.exchange("still here") == "still here")
      #expect(try setting.connect().exchange("new") == "new")

      try await mesh.left.agent.restart(announcing: [setting.client])
      try await mesh.right.agent.restart(announcing: [setting.server])
      for node in [mesh.left, mesh.right] {
        #expect(node.agent.hasSentSnapshots(2))
        #expect(try node.ztunnel.lines.count { $0.contains("pod is served") } == 1)
      }
      #expect(try open.exchange("still here") == "still here")
      #expect(try setting.connect().exchange("newer") == "newer")
    }
  }

  @Test("lets go of a pod that left while the node agent was away")
  func podLeftMeanwhile() async throws {
    try await MeshFixture.with { mesh in
      let setting = try await Setting(mesh)
      let open = try setting.connect()
      #expect(try open.exchange("hello") == "hello")
      try await mesh.right.agent.stop()
      #expect(try mesh.right.ztunnel.waitForLine("lost the node agent") != nil)
      try await mesh.right.agent.restart(announcing: [])
      #expect(mesh.right.agent.hasSentSnapshots(2))
      #expect(try open.end() == .reset)
      #expect(try eventually { try !setting.server.pod.listeningPorts.contains(15008) })
    }
  }
}

/// Makes connection after connection, each with a word there and back, from a thread of its own.
private final class Load: Sendable {
  private struct State {
    var succeeded = 0
    var failures: [String] = []
    var isStopped = false
    var isOver = false
  }

  private let state = Mutex(State())

  init(_ connect: @escaping @Sendable () throws -> TCPConnection) {
    Thread.detachNewThread { [self] in
      while !state.withLock({ $0.isStopped }) {
        do {
          let connection = try connect()
          guard try connection.exchange("word") == "word" else { throw TCPTestError.corrupted(near: 0) }
          state.withLock { $0.succeeded += 1 }
        } catch {
          state.withLock { $0.failures.append("after \($0.succeeded): \(error)") }
        }
        usleep(2000)
      }
      state.withLock { $0.isOver = true }
    }
  }

  var succeeded: Int { state.withLock { $0.succeeded } }
  var failures: [String] { state.withLock { $0.failures } }

  /// Returns when the last connection is over.
  func stop() {
    state.withLock { $0.isStopped = true }
    _ = eventually(within: .seconds(15)) { state.withLock { $0.isOver } }
  }
}
