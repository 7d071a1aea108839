import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@Suite(
  "Ztunnel told to end or to look again", .requires(.root, .command("ip"), .command("ss"), .command("curl")),
  .timeLimit(.minutes(2)))
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

  @Test("while a connection runs and no successor is there, new ones are served; what comes last waits")
  func servesOn() async throws {
    try await MeshFixture.with(environment: ["CONNECTION_TERMINATION_DEADLINE": "20s"]) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let address = server.address(port: 8080)
      let open = try TCPClient(in: client.pod).connect(to: address)
      #expect(try open.exchange("hello") == "hello")
      let process = try mesh.right.ztunnel
      process.signal(SIGTERM)
      #expect(process.waitForLine("new connections are served as long as open ones run") != nil)
      for index in 0..<20 {
        let connection = try TCPClient(in: client.pod).connect(to: address)
        #expect(try connection.exchange("new \(index)") == "new \(index)")
      }
      #expect(process.isRunning)
      #expect(!process.hasLine("left to the next ztunnel", "deadline_in"))
      try open.finishSending()
      #expect(try open.receiveToEnd().isEmpty)
      #expect(process.waitForExit(within: .seconds(20)) == 0)
      let waiting = try TCPClient(in: client.pod).connect(to: address)
      try waiting.send("waiting")
      try mesh.startZtunnel(on: mesh.right)
      #expect(try waiting.receive(7) == Array("waiting".utf8))
    }
  }

  @Test("SIGHUP has it read its files anew, take back the levels of the log, and say what it did")
  func reload() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let open = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try open.exchange("hello") == "hello")
      let process = try mesh.left.ztunnel
      func levels(_ query: String) throws -> String {
        try mesh.left.node.mustRun(["curl", "-s", "-m", "10", "-X", "POST", "http://127.0.0.1:15000/logging" + query])
      }
      let before = try levels("")
      #expect(try levels("?level=warn,ztunnel::inpod=trace") != before)
      process.signal(SIGHUP)
      #expect(try eventually(within: .seconds(10)) { try levels("") == before })
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

  /// A peer of `server` that speaks HTTP/2 by hand, with a tunnel that is established.
  private func rawPeer(of server: MeshPod, _ mesh: MeshFixture) async throws -> RawTunnel {
    let peer = try await mesh.pod("peer", on: mesh.left, inMesh: false)
    let certificate = try PeerCertificate.good.issue(in: mesh, serviceAccount: "peer")
    let tunnel = try RawTunnel(from: peer.pod, to: server, as: certificate)
    try tunnel.send(HTTP2Frame.preface + HTTP2Frame.settings() + HTTP2Frame.ping)
    // Its answer to the ping: everything before was understood.
    _ = try tunnel.frames { $0.type == 6 }
    return tunnel
  }

  /// The first notice of a graceful end: no stream is refused yet, and nothing is wrong (RFC 9113 §6.8).
  private static let notice = [UInt8](arrayLiteral: 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0)

  @Test("a peer has its GOAWAY before the removal of the pod is acknowledged")
  func removalSendsGoAway() async throws {
    try await MeshFixture.with { mesh in
      let server = try await mesh.pod("server", on: mesh.right)
      let tunnel = try await rawPeer(of: server, mesh)
      try await mesh.right.agent.remove(server)
      // It is acknowledged: what there is to read has been sent before.
      let frames = try tunnel.framesUntilClosed(within: .seconds(5))
      let goAway = try #require(frames.first { $0.type == HTTP2Frame.Received.goAway })
      #expect(Array(goAway.payload.prefix(8)) == Self.notice)
    }
  }

  @Test("peers have GOAWAY as soon as another ztunnel has taken over, long before the old one ends")
  func restSendsGoAway() async throws {
    try await MeshFixture.with { mesh in
      let server = try await mesh.pod("server", on: mesh.right)
      let tunnel = try await rawPeer(of: server, mesh)
      let old = try mesh.right.ztunnel
      try mesh.startZtunnel(on: mesh.right)
      let frames = try tunnel.frames { $0.type == HTTP2Frame.Received.goAway }
      #expect(frames.last.map { Array($0.payload.prefix(8)) } == Self.notice)
      #expect(old.isRunning)
      #expect(old.waitForLine("another ztunnel has taken over") != nil)
      old.signal(SIGTERM)
      #expect(old.waitForExit(within: .seconds(10)) == 0)
    }
  }

  @Test("what waits to be accepted when the pod is deleted is served, all of it")
  func removalServesBacklog() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      #expect(try TCPClient(in: client.pod).connect(to: server.address(port: 8080)).exchange("warm") == "warm")
      let process = try mesh.left.ztunnel
      process.signal(SIGSTOP)
      defer { process.signal(SIGCONT) }
      let queued = try (0..<60).map { index in
        let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
        try connection.send("queued \(index)")
        try connection.finishSending()
        return connection
      }
      async let removal: Void = mesh.left.agent.remove(client, keepingRules: true)
      try await Task.sleep(for: .milliseconds(100))
      process.signal(SIGCONT)
      try await removal
      let served = try queued.enumerated().filter { try $1.receiveTextToEnd() == "queued \($0)" }
      #expect(served.count == queued.count)
    }
  }

  @Test("sockets are left with the service manager, and removed from it with their pod")
  func descriptorStore() async throws {
    let directory = "/tmp/ambient-notify-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let manager = try NotifySocket(path: directory + "/notify")
    let environment = [
      "NOTIFY_SOCKET": manager.path, "FDSTORE": "9", "WATCHDOG_USEC": "6000000", "ISTIO_META_DNS_CAPTURE": "false",
    ]
    try await MeshFixture.with { mesh in
      let first = try mesh.left.ztunnel
      #expect(first.waitForLine("connected to the node agent") != nil)
      first.signal(SIGTERM)
      #expect(first.waitForExit(within: .seconds(10)) == 0)
      let process = try mesh.startZtunnel(on: mesh.left, environment)
      let pod = try await mesh.pod("one", on: mesh.left)
      #expect(eventually { manager.stored.count == 4 })
      let ports = Set(manager.stored.compactMap { try? WaitingSocket($0.descriptor.raw)?.address?.port })
      #expect(ports == [15001, 15006, 15008])
      #expect(Set(manager.stored.map(\.name)).count == 1)
      _ = try await mesh.pod("two", on: mesh.left)
      #expect(eventually { manager.stored.count == 8 })
      _ = try await mesh.pod("three", on: mesh.left)
      #expect(process.waitForLine("the descriptor store is full") != nil)
      #expect(manager.stored.count == 8)
      try await mesh.left.agent.remove(pod)
      #expect(eventually { manager.stored.count == 4 })
      #expect(eventually { manager.lastSign != nil })
      process.signal(SIGTERM)
      #expect(process.waitForExit(within: .seconds(10)) == 0)
      #expect(manager.stored.count == 4, "what is left stays for the next one")
      #expect(manager.messages.contains { $0 == "STOPPING=1" })
      #expect(manager.messages.last == "BARRIER=1")
    }
  }
}
