import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@Suite("The TCP test peers", .requires(.root, .command("ip")), .timeLimit(.minutes(1)))
struct TCPTests {
  /// A server in a namespace of its own and a client beside it.
  private func withServer(
    _ behaviour: TCPServer.Behaviour, _ body: (TCPServer, () throws -> TCPConnection) throws -> Void
  ) throws {
    try TestNetwork.with { network in
      let place = try network.namespace("alone")
      let server = try TCPServer(in: place, behaviour)
      defer { server.stop() }
      try body(server) { try TCPClient(in: place).connect(to: SocketAddress(.loopback(.v4), server.port)) }
    }
  }

  @Test("send much data both ways at once and find it unchanged")
  func bulkEcho() throws {
    try withServer(.echo) { _, connect in try connect().echoPattern(20_000_000) }
  }

  @Test("take data, and report after a half-close")
  func sink() throws {
    try withServer(.sink) { _, connect in
      let connection = try connect()
      try connection.sendPattern(3_000_000)
      try connection.finishSending()
      #expect(try connection.receiveTextToEnd() == "bytes=3000000 intact=true")
      let other = try connect()
      try other.send(BytePattern.slice(at: 1, count: 100))
      try other.finishSending()
      #expect(try other.receiveTextToEnd() == "bytes=100 intact=false")
    }
  }

  @Test("give data, and say when some is missing")
  func source() throws {
    try withServer(.source(1_000_000)) { _, connect in
      try connect().receivePattern(1_000_000)
      #expect(throws: TCPTestError.endedEarly(missing: 1)) { try connect().receivePattern(1_000_001) }
    }
  }

  @Test("reset a connection")
  func reset() throws {
    try withServer(.reset) { _, connect in
      let connection = try connect()
      try connection.send("x")
      let error = #expect(throws: SystemError.self) { try connection.receive(1) }
      #expect(error?.code == "ECONNRESET")
    }
  }

  @Test("give up on a silent peer in time")
  func silence() throws {
    try withServer(.silent) { _, connect in
      let connection = try connect()
      #expect(throws: TCPTestError.timedOut("receiving")) {
        try connection.receive(1, timeout: .milliseconds(50))
      }
    }
  }

  @Test("hold 500 connections at once")
  func parallel() throws {
    try withServer(.echo) { server, connect in
      let connections = try (0..<500).map { _ in try connect() }
      for (index, connection) in connections.enumerated() { try connection.send("message \(index)") }
      for (index, connection) in connections.enumerated() {
        let expected = Array("message \(index)".utf8)
        #expect(try connection.receive(expected.count) == expected)
      }
      #expect(server.peers.count == 500)
    }
  }

  @Test("are refused where nobody listens")
  func refusal() throws {
    try withServer(.echo) { server, connect in
      server.stop()
      #expect(
        eventually {
          do {
            _ = try connect()
            return false
          } catch {
            return (error as? SystemError)?.code == "ECONNREFUSED"
          }
        })
    }
  }
}
