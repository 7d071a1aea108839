import HTTP2
import Linux
import TLS
import TestSupport
import Testing
import Vocabulary

/// A pod whose connections are captured, and a workload of the mesh whose port 15008 is the test's own.
struct ImpostorScene: Sendable {
  let mesh: MeshFixture
  let client: MeshPod
  let impostor: MeshPod

  static func with(
    environment: [String: String] = [:], _ body: (ImpostorScene) async throws -> Void
  ) async throws {
    try await MeshFixture.with(environment: environment) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let impostor = try await mesh.unservedPod("impostor", on: mesh.right)
      try await body(ImpostorScene(mesh: mesh, client: client, impostor: impostor))
    }
  }

  /// A server on the impostor's port 15008.
  func server(
    as kind: PeerCertificate = .good, serviceAccount: String = "impostor", settings: HTTP2Settings = .server,
    answer: @escaping @Sendable (HTTP2Stream) -> Void = { $0.acceptAndEcho() }
  ) async throws -> HostileServer {
    try await HostileServer(
      in: impostor.pod, as: try kind.issue(in: mesh, serviceAccount: serviceAccount), settings: settings, answer: answer
    )
  }

  /// A captured connection to the impostor's port 8080.
  func connect() throws -> TCPConnection { try TCPClient(in: client.pod).connect(to: impostor.address(port: 8080)) }

  /// The line of the outbound connection that failed with `code`; throws when there is none.
  @discardableResult
  func failure(_ code: String, within limit: Duration = .seconds(10)) throws -> String {
    try #require(
      try mesh.left.ztunnel.waitForLine(containing: "error_code=\"\(code)\"", within: limit), "the log names \(code)")
  }
}

extension MeshFixture {
  /// A pod of which the mesh file says that it speaks HBONE, but whose port 15008 is left to the test.
  func unservedPod(_ name: String, on node: MeshNode) async throws -> MeshPod {
    let pod = try await pod(name, on: node)
    try await node.agent.remove(pod)
    let isFree = try eventually {
      try pod.pod.place.namespace.enter {
        let probe = SharedDescriptor(try TCPSocket.make(.v6))
        return (try? TCPSocket.bind(probe.raw, .v6, to: SocketAddress(.any(.v6), 15008))) != nil
      }
    }
    try #require(isFree, "the proxy lets go of port 15008")
    return pod
  }
}

/// What an application sees of its connection's end.
enum SeenEnd: Equatable {
  case finished
  case reset

  /// Connects, where `connection` does, and reads to the end. A reset may come before the connect was noticed to succeed.
  init(of connection: @autoclosure () throws -> TCPConnection, timeout: Duration = .seconds(5)) throws {
    do {
      _ = try connection().receiveToEnd(timeout: timeout)
      self = .finished
    } catch let error as SystemError where error.number == 104 {  // ECONNRESET
      self = .reset
    }
  }
}

@Suite("A tunnel to a server that is not what it should be", .requires(.root, .command("ip")))
struct HostileOutboundTests {
  @Test(
    "is refused by the server's certificate, and the application's connection is reset",
    arguments: [
      (PeerCertificate.good, "somebody-else", "TLS_PEER_WRONG_IDENTITY"),
      (.ofAnotherTrustDomain, "impostor", "TLS_PEER_WRONG_IDENTITY"),
      (.ofAnotherAuthority, "impostor", "TLS_PEER_UNTRUSTED"), (.expired, "impostor", "TLS_PEER_EXPIRED"),
    ])
  func certificate(kind: PeerCertificate, serviceAccount: String, code: String) async throws {
    try await ImpostorScene.with { scene in
      let server = try await scene.server(as: kind, serviceAccount: serviceAccount)
      #expect(try SeenEnd(of: scene.connect()) == .reset)
      let line = try scene.failure(code)
      #expect(line.contains("dst.hbone_addr=\(scene.impostor.address(port: 8080))"))
      #expect(line.contains("bytes_sent=0 bytes_recv=0"))
      #expect(server.requests.isEmpty, "nothing is said to a server that has not proven itself")
      try await server.stop()
    }
  }

  @Test("is refused by what is no TLS")
  func plaintext() async throws {
    try await ImpostorScene.with { scene in
      let server = try TCPServer(in: scene.impostor.pod, port: 15008, .greet("SSH-2.0-OpenSSH_9.2\r\n"))
      defer { server.stop() }
      #expect(try SeenEnd(of: scene.connect()) == .reset)
      try scene.failure("TLS_NOT_TLS")
    }
  }

  @Test("is refused by a status, which the log tells", arguments: [401, 403, 503])
  func status(status: Int) async throws {
    try await ImpostorScene.with { scene in
      let server = try await scene.server {
        $0.respond(HTTP2Headers([(":status", "\(status)")]), endStream: true)
      }
      #expect(try SeenEnd(of: scene.connect()) == .reset)
      let line = try scene.failure(status == 401 ? "PEER_DENIED" : "PEER_REFUSED")
      #expect(line.contains("error=\"http status: \(status) "))
      try await server.stop()
    }
  }

  @Test("gives up when TLS does not come to an end in ten seconds, and tells everybody who waits")
  func silent() async throws {
    try await ImpostorScene.with { scene in
      let server = try TCPServer(in: scene.impostor.pod, port: 15008, .silent)
      defer { server.stop() }
      let start = ContinuousClock.now
      let connections = [try scene.connect(), try scene.connect(), try scene.connect()]
      for connection in connections { #expect(try SeenEnd(of: connection, timeout: .seconds(14)) == .reset) }
      #expect(ContinuousClock.now - start < .seconds(14), "nobody waits for somebody else's time-out first")
      try scene.failure("TLS_HANDSHAKE_TIMEOUT")
      #expect(
        eventually { ((try? scene.mesh.left.ztunnel.lines) ?? []).count { $0.contains("TLS_HANDSHAKE_TIMEOUT") } == 3 })
    }
  }

  @Test("gives up when CONNECT is not answered")
  func unanswered() async throws {
    try await ImpostorScene.with { scene in
      let server = try await scene.server { _ in }
      #expect(try SeenEnd(of: scene.connect(), timeout: .seconds(20)) == .reset)
      try scene.failure("CONNECT_TIMEOUT")
      #expect(server.connectionCount == 1)
      try await server.stop()
    }
  }

  @Test("takes a request that was refused before it was seen to another try, and gives up in the end")
  func refusedStream() async throws {
    try await ImpostorScene.with { scene in
      let server = try await scene.server { $0.reset(.refusedStream) }
      #expect(try SeenEnd(of: scene.connect()) == .reset)
      try scene.failure("HBONE_STREAM_REFUSED")
      #expect(server.requests.count == 3)
      try await server.stop()
    }
  }

  @Test("goes on after GOAWAY for those who are on it; the next request gets a new connection")
  func goAway() async throws {
    try await ImpostorScene.with { scene in
      let server = try await scene.server()
      let first = try scene.connect()
      #expect(try first.exchange("one") == "one")
      try await server.shutDownGracefully()
      try await Task.sleep(for: .milliseconds(300))
      let second = try scene.connect()
      #expect(try second.exchange("two") == "two")
      #expect(server.connectionCount == 2)
      #expect(try first.exchange("still") == "still")
      try first.finishSending()
      #expect(try first.receiveToEnd().isEmpty)
      try await server.stop()
    }
  }

  @Test(
    "passes a reset on as the end that it means",
    arguments: [
      (HTTP2ErrorCode.noError, SeenEnd.finished, nil as String?), (.cancel, .reset, nil), (.connectError, .reset, nil),
      (.streamClosed, .reset, nil), (.protocolError, .reset, "RECEIVE_FAILED"),
      (.internalError, .reset, "RECEIVE_FAILED"),
    ])
  func reset(code: HTTP2ErrorCode, seen: SeenEnd, failure: String?) async throws {
    try await ImpostorScene.with { scene in
      let server = try await scene.server { stream in
        stream.respond(HTTP2Headers([(":status", "200")]), endStream: false)
        stream.handler = ResetOnData(stream, code)
      }
      let connection = try scene.connect()
      try connection.send("x")
      #expect(try SeenEnd(of: connection) == seen)
      let line = try #require(try scene.mesh.left.ztunnel.waitForLine(containing: "connection complete"))
      if let failure {
        #expect(line.contains("error_code=\"\(failure)\""))
      } else {
        #expect(!line.contains("error="))
      }
      #expect(line.contains("bytes_sent=1 bytes_recv=0"))
      try await server.stop()
    }
  }

  @Test("that is lost resets the applications on it, and the next request gets a new one")
  func lost() async throws {
    try await ImpostorScene.with { scene in
      var server = try await scene.server()
      let connection = try scene.connect()
      #expect(try connection.exchange("one") == "one")
      try await server.stop()
      #expect(try SeenEnd(of: connection) == .reset)
      try scene.failure("RECEIVE_FAILED")
      server = try await scene.server()
      #expect(try scene.connect().exchange("two") == "two")
      try await server.stop()
    }
  }

  @Test("keeps to the number of streams that the server allows, and opens another connection for more")
  func streamLimit() async throws {
    // One worker, so that all connections share one pool.
    try await ImpostorScene.with(environment: ["ZTUNNEL_WORKER_THREADS": "1"]) { scene in
      var settings = HTTP2Settings.server
      settings.maxConcurrentStreams = 5
      let server = try await scene.server(settings: settings)
      var connections: [TCPConnection] = []
      for index in 0..<12 {
        connections.append(try scene.connect())
        #expect(try connections[index].exchange("\(index % 10)") == "\(index % 10)")
      }
      #expect(server.connectionCount == 3)
      for connection in connections { #expect(try connection.exchange("all") == "all") }
      try await server.stop()
    }
  }

  @Test("opens a second connection for the 101st stream")
  func poolLimit() async throws {
    try await ImpostorScene.with(environment: ["ZTUNNEL_WORKER_THREADS": "1"]) { scene in
      let server = try await scene.server()
      var connections: [TCPConnection] = []
      for _ in 0..<100 {
        let connection = try scene.connect()
        #expect(try connection.exchange("x") == "x")
        connections.append(connection)
      }
      #expect(server.connectionCount == 1)
      connections.append(try scene.connect())
      #expect(try connections[100].exchange("x") == "x")
      #expect(server.connectionCount == 2)
      try await server.stop()
    }
  }

  @Test("whose server reads nothing holds its sender back, and nobody else")
  func unread() async throws {
    try await ImpostorScene.with(environment: ["ZTUNNEL_WORKER_THREADS": "1"]) { scene in
      let server = try await scene.server { stream in
        if stream.headers[":authority"]?.hasSuffix(":8080") == true {
          stream.respond(HTTP2Headers([(":status", "200")]), endStream: false)
          _ = HostileStream(stream, drains: false)
        } else {
          stream.acceptAndEcho()
        }
      }
      let stalled = try scene.connect()
      #expect(throws: TCPTestError.self, "64 MB are not taken") {
        try stalled.sendPattern(64 << 20, timeout: .seconds(3))
      }
      let other = try TCPClient(in: scene.client.pod).connect(to: scene.impostor.address(port: 9090))
      #expect(try other.exchange("past it") == "past it")
      #expect(server.connectionCount == 1)
      try await server.stop()
    }
  }
}

/// Answers the first bytes of a tunnel with a reset.
private final class ResetOnData: HTTP2StreamHandler {
  private let stream: HTTP2Stream
  private let code: HTTP2ErrorCode

  init(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {
    self.stream = stream
    self.code = code
  }

  func streamSupply(_ room: UnsafeMutableRawBufferPointer) -> HTTP2Supply { .nothingYet }
  func streamReceived(_ chunk: UnsafeRawBufferPointer) { stream.consume(chunk.count) }
  func streamReceivedEnd() {}
  func streamRoundEnded() { stream.reset(code) }
  func streamClosed(_ end: HTTP2StreamEnd) {}
}
