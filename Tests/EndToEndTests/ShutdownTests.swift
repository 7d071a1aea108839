import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@Suite(
  "Ztunnel told to end or to look again", .requires(.root, .command("ip"), .command("ss")), .timeLimit(.minutes(2)))
struct ShutdownTests {
  @Test("a second SIGTERM cuts what is open, says so, and ends in order", arguments: [SIGTERM, SIGINT])
  func twice(signal: CInt) async throws {
    try await MeshFixture.with(environment: ["CONNECTION_TERMINATION_DEADLINE": "60s"]) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let open = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try open.exchange("hello") == "hello")
      let process = try mesh.left.ztunnel
      process.signal(SIGTERM)
      let progress = try #require(process.waitForLine("draining", "connections=\"1\"", "deadline_in"))
      #expect(progress.contains("pods=\"1\""))
      #expect(try open.exchange("still here") == "still here")
      process.signal(signal)
      #expect(process.waitForLine("asked again to end") != nil)
      #expect(try open.end() == .reset)
      #expect(process.waitForExit(within: .seconds(20)) == 0)
      #expect(process.hasLine("connection complete", "DRAINED"))
    }
  }

  @Test("SIGTERM during the start ends it in order")
  func early() async throws {
    try await MeshFixture.with { mesh in
      for milliseconds in [0, 5, 20, 60] {
        let process = try mesh.startZtunnel(on: mesh.left)
        usleep(useconds_t(milliseconds * 1000))
        process.signal(SIGTERM)
        let status = process.waitForExit(within: .seconds(20))
        // Before the process has come as far as its first line it is ended by the signal itself.
        #expect(status == 0 || status == 128 + SIGTERM)
      }
    }
  }

  @Test("SIGHUP has it read its files anew, and say what it did")
  func reload() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let open = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try open.exchange("hello") == "hello")
      let process = try mesh.left.ztunnel
      process.signal(SIGHUP)
      let line = try #require(process.waitForLine("reloaded on SIGHUP"))
      #expect(line.contains("mesh_file=\"read anew\"") && line.contains("log_levels=\"info,access=debug"))
      #expect(try open.exchange("still here") == "still here")
    }
  }

  @Test("a pod that leaves tells its peers, and serves what had been accepted for it")
  func removalTells() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let open = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try open.exchange("hello") == "hello")
      // The application ends just as the pod is deleted: its last words still arrive.
      try open.send("last words")
      try open.finishSending()
      try await mesh.right.agent.remove(server)
      #expect(try open.receiveTextToEnd() == "last words")
      #expect(try server.pod.listeningPorts.isDisjoint(with: [15001, 15006, 15008]), "nobody keeps its sockets")
    }
  }

  @Test("sockets are left with the service manager, and removed from it with their pod")
  func descriptorStore() async throws {
    let directory = "/tmp/ambient-notify-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let manager = try NotifySocket(path: directory + "/notify")
    let environment = [
      "NOTIFY_SOCKET": manager.path, "FDSTORE": "7", "WATCHDOG_USEC": "6000000", "ISTIO_META_DNS_CAPTURE": "false",
    ]
    try await MeshFixture.with { mesh in
      let first = try mesh.left.ztunnel
      #expect(first.waitForLine("connected to the node agent") != nil)
      first.signal(SIGTERM)
      #expect(first.waitForExit(within: .seconds(10)) == 0)
      let process = try mesh.startZtunnel(on: mesh.left, environment)
      let pod = try await mesh.pod("one", on: mesh.left)
      #expect(eventually { manager.stored.count == 3 })
      let ports = Set(manager.stored.compactMap { try? WaitingSocket($0.descriptor.raw)?.address.port })
      #expect(ports == [15001, 15006, 15008])
      #expect(Set(manager.stored.map(\.name)).count == 1)
      _ = try await mesh.pod("two", on: mesh.left)
      #expect(eventually { manager.stored.count == 6 })
      _ = try await mesh.pod("three", on: mesh.left)
      #expect(process.waitForLine("the descriptor store is full") != nil)
      #expect(manager.stored.count == 6)
      try await mesh.left.agent.remove(pod)
      #expect(eventually { manager.stored.count == 3 })
      #expect(eventually { manager.lastSign != nil })
      process.signal(SIGTERM)
      #expect(process.waitForExit(within: .seconds(10)) == 0)
      #expect(manager.stored.count == 3, "what is left stays for the next one")
      #expect(manager.messages.contains { $0 == "STOPPING=1" })
      #expect(manager.messages.last == "BARRIER=1")
    }
  }
}
