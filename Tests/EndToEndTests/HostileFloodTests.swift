import Foundation
import HTTP2
import Linux
import TLS
import TestSupport
import Testing
import Vocabulary

@Suite("Port 15008 under a flood", .requires(.root, .command("ip")))
struct HostileFloodTests {
  /// More than any of these attacks may cost the proxy. Each sends, or asks for, many times as much.
  static let memoryAllowance = 80 << 20

  /// Runs an attack of an authenticated peer, and checks that the proxy stays small and serves others.
  private func attack(_ body: (HostileScene, RawTunnel) async throws -> Void) async throws {
    try await HostileScene.with { scene in
      #expect(try await scene.echo("before") == "before")
      let before = try scene.residentMemory()
      let tunnel = try RawTunnel(from: scene.attacker.pod, to: scene.server, as: try scene.certificate())
      try tunnel.send(HTTP2Frame.preface + HTTP2Frame.settings())
      try await body(scene, tunnel)
      let growth = try scene.residentMemory() - before
      #expect(growth < Self.memoryAllowance, "the proxy grew by \(growth >> 10) KiB")
      #expect(try await scene.echo("after") == "after")
      #expect(try scene.ztunnel.isRunning)
    }
  }

  /// Sends until the proxy closes or `count` chunks are gone. Returns whether it closed.
  private func send(_ chunk: [UInt8], times count: Int, to tunnel: RawTunnel) -> Bool {
    for _ in 0..<count {
      do { try tunnel.send(chunk, timeout: .seconds(5)) } catch { return true }
    }
    return false
  }

  @Test(
    "turns peers away while the proxy has no descriptors left, and serves as soon as it has",
    .requires(.command("prlimit"))
  )
  func descriptors() async throws {
    try await HostileScene.with { scene in
      #expect(try await scene.echo("before") == "before")
      let process = try scene.ztunnel
      let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process.pid)/fd").count
      try Command.mustRun(["prlimit", "--pid", "\(process.pid)", "--nofile=\(open + 30):"])
      let address = scene.server.address(port: 15008)
      // None of them says a word: each holds a descriptor as long as its handshake may take. The last may be turned away.
      var silent = (0..<100).compactMap { _ in try? TCPClient(in: scene.attacker.pod).connect(to: address) }
      #expect(process.waitForLine("error_code=\"ACCEPT_NO_DESCRIPTORS\"") != nil)
      #expect(process.waitForLine("turns connections away") != nil)
      var isTurnedAway = true
      do {
        _ = try TCPClient(in: scene.attacker.pod).connect(to: address).receiveToEnd(timeout: .seconds(5))
      } catch TCPTestError.timedOut { isTurnedAway = false } catch {}
      #expect(isTurnedAway)
      silent = []
      let isServed = try await eventually(within: .seconds(20)) {
        (try? await scene.echo("after")) == "after"
      }
      #expect(isServed && silent.isEmpty)
      #expect(process.waitForLine("accepts connections again") != nil)
    }
  }

  @Test("resets a stream with too many header bytes, and keeps the connection")
  func headers() async throws {
    try await HostileScene.with { scene in
      let address = scene.echoAddress
      try await scene.withClient { client in
        var fields = [(":method", "CONNECT"), (":authority", "\(address)")]
        for index in 0..<20 { fields.append(("x-filler-\(index)", String(repeating: "y", count: 4000))) }
        let stream = try client.open(fields)
        guard case .reset = await stream.waitForResponse() else {
          Issue.record("the stream was answered: \(stream.headers)")
          return
        }
        #expect(try await client.echo("next", through: address) == "next")
      }
    }
  }

  @Test("ends a connection whose header block has no end")
  func continuation() async throws {
    try await attack { _, tunnel in
      try tunnel.send(HTTP2Frame.headers([(":method", "CONNECT")], stream: 1, ends: false))
      let filler = HTTP2Frame.continuation([("x-filler", String(repeating: "y", count: 8000))], stream: 1)
      #expect(send(filler, times: 20_000, to: tunnel), "160 MB of header fields are not taken")
    }
  }

  @Test("ends a connection that opens streams only to reset them")
  func rapidReset() async throws {
    try await attack { scene, tunnel in
      var closed = false
      var id: UInt32 = 1
      for _ in 0..<500 where !closed {
        var burst: [UInt8] = []
        for _ in 0..<100 {
          burst += HTTP2Frame.connect("\(scene.echoAddress)", stream: id) + HTTP2Frame.reset(stream: id)
          id += 2
        }
        closed = send(burst, times: 1, to: tunnel)
      }
      #expect(closed, "50000 streams were opened and reset")
    }
  }

  @Test(
    "ends a connection that asks for answers and does not read them",
    arguments: [HTTP2Frame.ping, HTTP2Frame.settings()])
  func unreadAnswers(frame: [UInt8]) async throws {
    try await attack { _, tunnel in
      let chunk = [[UInt8]](repeating: frame, count: 500).flatMap { $0 }
      #expect(send(chunk, times: 20_000, to: tunnel), "ten million frames are not answered")
    }
  }

  @Test("closes a connection whose handshake does not come to an end in ten seconds")
  func slowHandshake() async throws {
    try await HostileScene.with { scene in
      let start = ContinuousClock.now
      let idle = try TCPClient(in: scene.attacker.pod).connect(to: scene.server.address(port: 15008))
      let dripping = try TCPClient(in: scene.attacker.pod).connect(to: scene.server.address(port: 15008))
      // The first bytes of a ClientHello, one a second.
      let hello: [UInt8] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]
      for byte in hello {
        guard (try? dripping.send([byte])) != nil else { break }
        try await Task.sleep(for: .seconds(1))
        if ContinuousClock.now - start > .seconds(11) { break }
      }
      for connection in [idle, dripping] {
        #expect(throws: Never.self) {
          do { _ = try connection.receiveToEnd(timeout: .seconds(5)) } catch is SystemError {}
        }
      }
      #expect(ContinuousClock.now - start > .seconds(9), "an honest peer has ten seconds")
      try scene.failure("TLS_HANDSHAKE_TIMEOUT")
      #expect(try scene.ztunnel.lines.count { $0.contains("TLS_HANDSHAKE_TIMEOUT") } == 2)
    }
  }

  @Test("holds little for a peer that reads nothing, and serves others meanwhile")
  func unreadData() async throws {
    try await attack { scene, tunnel in
      let source = try TCPServer(in: scene.server.pod, port: 8081, .source(1 << 30))
      defer { source.stop() }
      // Windows as large as they get: the peer asks for everything at once.
      try tunnel.send(
        HTTP2Frame.settings([(4, 0x7fff_ffff)]) + HTTP2Frame.windowUpdate(stream: 0, 0x7fff_0000))
      for stream in 0..<8 {
        try tunnel.send(
          HTTP2Frame.connect("\(scene.server.address(port: 8081))", stream: UInt32(stream * 2 + 1)))
      }
      #expect(eventually { source.peers.count == 8 })
      try await Task.sleep(for: .seconds(2))
      #expect(try await scene.echo("meanwhile") == "meanwhile")
    }
  }

  @Test("holds no more than its windows for applications that read nothing, and other streams go on")
  func unreadUploads() async throws {
    try await HostileScene.with { scene in
      let silent = try TCPServer(in: scene.server.pod, port: 8082, .silent)
      defer { silent.stop() }
      let before = try scene.residentMemory()
      let (echo, sink) = (scene.echoAddress, scene.server.address(port: 8082))
      try await scene.withClient { client in
        var stalled: [HostileStream] = []
        for _ in 0..<6 {
          let (stream, status) = try await client.connect(sink)
          try #require(status == 200)
          let tunnel = HostileStream(stream)
          tunnel.send([UInt8](repeating: 7, count: 24 << 20))
          stalled.append(tunnel)
        }
        await client.loop.sleep(for: .seconds(2))
        #expect(try await client.echo("past them", through: echo) == "past them")
        #expect(stalled.allSatisfy { $0.end == nil })
      }
      let growth = try scene.residentMemory() - before
      #expect(growth < Self.memoryAllowance, "the proxy grew by \(growth >> 10) KiB")
    }
  }
}
