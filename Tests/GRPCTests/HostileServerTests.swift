import Linux
import TestSupport
import Testing
import Vocabulary

@testable import GRPC

/// What a bad server does, and what a call to it must end with.
struct Misbehaviour: Sendable, CustomTestStringConvertible {
  let name: String
  let status: GRPCStatus.Code
  var testDescription: String { name }

  init(_ name: String, _ status: GRPCStatus.Code) {
    self.name = name
    self.status = status
  }
}

@Suite("Calls to servers that misbehave", .requires(.grpc), .timeLimit(.minutes(2)))
struct HostileServerTests {
  @Test(
    "every misbehaviour ends the call, with its own status",
    arguments: [
      Misbehaviour("reset", .internalError), Misbehaviour("refuse", .unavailable),
      Misbehaviour("over-cap", .resourceExhausted), Misbehaviour("compressed", .internalError),
      Misbehaviour("garbage", .unavailable), Misbehaviour("truncated", .internalError),
      Misbehaviour("no-status", .unknown), Misbehaviour("http-503", .unavailable),
      Misbehaviour("web-page", .unknown), Misbehaviour("no-content-type", .unknown),
      Misbehaviour("trailers-only", .permissionDenied), Misbehaviour("unknown-code", .unknown),
      Misbehaviour("status-no-number", .unknown), Misbehaviour("empty-trailers", .unknown),
      Misbehaviour("go-away", .unavailable), Misbehaviour("two-answers", .internalError),
      Misbehaviour("no-answer", .internalError), Misbehaviour("data-first", .unavailable),
      Misbehaviour("close", .unavailable),
    ])
  func ends(_ misbehaviour: Misbehaviour) async throws {
    let server = try PythonServer("raw_server.py", [misbehaviour.name])
    let (outcome, took) = try await withChannel(server.endpoint()) { channel, _ in
      let start = ContinuousClock.now
      return (await channel.outcome("/test.Test/Echo", "x"), start.duration(to: .now))
    }
    #expect(outcome.status == misbehaviour.status, "\(outcome)")
    #expect(took < .seconds(8))
  }

  @Test("messages before a reset are delivered, then the reset")
  func resetMidStream() async throws {
    let server = try PythonServer("raw_server.py", ["reset"])
    let (first, status) = try await withChannel(server.endpoint()) { channel, _ in
      let call = try await channel.call("/test.Test/EchoEach")
      call.send([1])
      let first = try await call.receive()
      do throws(GRPCStatus) { _ = try await call.receive() } catch { return (first, error) }
      return (first, GRPCStatus(.ok, ""))
    }
    #expect(first == Array("first".utf8))
    #expect(status.status == .internalError)
  }

  @Test("a server that takes the connection and says nothing is given up at the call's deadline, not the handshake's")
  func mute() async throws {
    let socket = try TCPSocket.make(.v4)
    try TCPSocket.bind(socket.raw, .v4, to: SocketAddress(.loopback(.v4), 0))
    try TCPSocket.listen(socket.raw, backlog: 8)
    let port = try TCPSocket.localAddress(socket.raw).port
    let endpoint = GRPCEndpoint(target: try #require(GRPCTarget("127.0.0.1:\(port)")), roots: .system)
    var limits = GRPCLimits()
    limits.handshake = .seconds(60)
    let (outcomes, took) = try await withChannel(endpoint, limits: limits) { channel, _ in
      let start = ContinuousClock.now
      // The second one waits for the connection that the first one has begun.
      let outcomes = [
        await channel.outcome("/test.Test/Echo", within: .milliseconds(300)),
        await channel.outcome("/test.Test/Echo", within: .milliseconds(300)),
      ]
      return (outcomes, start.duration(to: .now))
    }
    #expect(outcomes.map(\.status) == [.deadlineExceeded, .deadlineExceeded])
    #expect(took < .seconds(30))
  }

  @Test("a status message that is badly encoded is given as it is")
  func badEncoding() async throws {
    let server = try PythonServer("raw_server.py", ["trailers-only"])
    let outcome = try await withChannel(server.endpoint()) { channel, _ in await channel.outcome("/test.Test/Echo") }
    #expect(outcome.message == "a b%zz")
  }

  @Test("a server that never speaks is given up at the deadline")
  func silent() async throws {
    let server = try PythonServer("raw_server.py", ["silent"])
    let outcome = try await withChannel(server.endpoint()) { channel, _ in
      await channel.outcome("/test.Test/Echo", within: .milliseconds(500))
    }
    #expect(outcome.status == .deadlineExceeded)
  }

  @Test("a DNS name is sent as SNI, an address is not")
  func serverNameIndication() async throws {
    let server = try PythonServer("raw_server.py", ["no-answer"], files: ServerFiles(names: ["localhost"]))
    var endpoint = try server.endpoint(name: "localhost")
    _ = try await withChannel(endpoint) { channel, _ in await channel.outcome("/test.Test/Echo") }
    endpoint.target = GRPCTarget(host: .dns("localhost"), port: server.port)
    _ = try await withChannel(endpoint) { channel, _ in await channel.outcome("/test.Test/Echo") }
    #expect(
      eventually { server.process.lines.filter { $0.hasPrefix("sni") } == ["sni None", "sni localhost"] })
  }
}
