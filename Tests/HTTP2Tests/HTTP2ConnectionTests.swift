import Glibc
import Linux
import TLS
import Testing
import Vocabulary

@testable import HTTP2

@Suite("HTTP/2 connection")
struct HTTP2ConnectionTests {
  @Test("a handshake gives each side the other's identity")
  func identities() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      let outcome = await pair.establish()
      #expect(outcome.client == nil && outcome.server == nil)
      #expect(pair.client.peerIdentity == mesh.serverIdentity)
      #expect(pair.server.peerIdentity == mesh.clientIdentity)
    }
  }

  @Test("a server with another identity than expected is refused, and both sides know why")
  func wrongIdentity() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let other = SPIFFEIdentity(trustDomain: "td", namespace: "ns", serviceAccount: "other")
      let outcome = await (try ConnectedPair(mesh, loop: loop, expecting: [other])).establish()
      #expect(outcome.client?.code == "TLS_PEER_WRONG_IDENTITY")
      #expect(outcome.server?.code == "TLS_ALERT_RECEIVED")
    }
  }

  @Test("CONNECT, a 200, bytes both ways, and ends in both directions")
  func exchange() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      #expect(far.headers[":authority"] == "10.0.0.1:80")
      let server = MemoryEnd(far)
      far.respond([(":status", "200"), ("baggage", "a=b")].headers, endStream: false)
      #expect(await near.waitForResponse() == nil)
      #expect(near.headers.status == 200)
      #expect(near.headers["baggage"] == "a=b")
      let client = MemoryEnd(near)
      client.send("ping".utf8)
      client.finish()
      await loop.until { server.sawEnd }
      #expect(server.received == Array("ping".utf8))
      #expect(client.closed == nil, "the other direction stays open")
      server.send("pong".utf8)
      server.finish()
      await loop.until { client.closed != nil && server.closed != nil }
      #expect(client.received == Array("pong".utf8))
      #expect(client.closed == .complete)
      #expect(server.closed == .complete)
    }
  }

  @Test("a refusal ends the stream and leaves the connection open")
  func refusal() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      far.respond([(":status", "401")].headers, endStream: true)
      #expect(await near.waitForResponse() == nil)
      #expect(near.headers.status == 401)
      near.reset(.cancel)
      let (_, second) = try await pair.tunnel()
      #expect(second.headers[":method"] == "CONNECT")
      #expect(pair.client.closed == nil)
    }
  }

  @Test("a refused request ends at the server too, though its client would go on sending")
  func refusedRequestIsReset() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      far.respond([(":status", "401")].headers, endStream: true)
      #expect(await near.waitForResponse() == nil)
      let client = MemoryEnd(near)
      await loop.until { client.closed != nil && pair.server.streamCount == 0 }
      #expect(client.closed == .complete)
      #expect(pair.server.streamCount == 0)
      #expect(pair.client.closed == nil && pair.server.closed == nil)
    }
  }

  @Test("a connection that was closed before its handshake began says so at once")
  func closedBeforeHandshake() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      pair.server.close(.closedLocally)
      let outcome = await pair.establish(within: .milliseconds(200))
      #expect(outcome.server == .closedLocally)
    }
  }

  @Test("8 MiB pass both ways at once unharmed")
  func bulk() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      far.respond([(":status", "200")].headers, endStream: false)
      let (client, server) = (MemoryEnd(near), MemoryEnd(far))
      let up = (0..<(8 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
      let down = (0..<(8 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 17 &+ $0 >> 9) }
      client.send(up)
      client.finish()
      server.send(down)
      server.finish()
      let end = ContinuousClock.now + .seconds(60)
      while client.closed == nil || server.closed == nil, ContinuousClock.now < end {
        await loop.sleep(for: .milliseconds(5))
      }
      #expect(server.received == up)
      #expect(client.received == down)
    }
  }

  @Test("a reader that stops holds back its own stream at the window, and no other")
  func backPressure() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      _ = await pair.establish()
      var stalled: [(MemoryEnd, MemoryEnd)] = []
      // More stalled streams than the connection's window has room for.
      for _ in 0..<6 {
        let (near, far) = try await pair.tunnel()
        far.respond([(":status", "200")].headers, endStream: false)
        let (client, server) = (MemoryEnd(near), MemoryEnd(far))
        server.drains = false
        server.keepsBytes = false
        client.send([UInt8](repeating: 1, count: 6 << 20))
        stalled.append((client, server))
      }
      await loop.until { stalled.allSatisfy { $0.1.receivedCount == 4 << 20 } }
      for (_, server) in stalled { #expect(server.receivedCount == 4 << 20) }
      let (near, far) = try await pair.tunnel()
      far.respond([(":status", "200")].headers, endStream: false)
      let (client, server) = (MemoryEnd(near), MemoryEnd(far))
      client.send("through".utf8)
      await loop.until { server.receivedCount == 7 }
      #expect(server.received == Array("through".utf8))
      // Draining one lets the rest of it come.
      let (_, first) = stalled[0]
      first.drains = true
      first.stream.consume(first.receivedCount)
      await loop.until { first.receivedCount == 6 << 20 }
      #expect(first.receivedCount == 6 << 20)
    }
  }

  @Test("what closed streams left unread still counts against the connection")
  func closedStreamsHold() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      _ = await pair.establish()
      var unread: [MemoryEnd] = []
      let bytes = [UInt8](repeating: 1, count: 4 << 20)
      for _ in 0..<20 {
        let (near, far) = try await pair.tunnel()
        far.respond([(":status", "200")].headers, endStream: false)
        let (client, server) = (MemoryEnd(near), MemoryEnd(far))
        server.drains = false
        server.keepsBytes = false
        unread.append(server)
        client.send(bytes)
        let end = ContinuousClock.now + .milliseconds(500)
        while server.receivedCount < bytes.count, ContinuousClock.now < end { await loop.sleep(for: .milliseconds(2)) }
        near.reset(.noError)
        await loop.until { server.closed != nil }
      }
      let held = unread.reduce(0) { $0 + $1.receivedCount }
      #expect(held <= 64 << 20, "what may be held freely, and one connection window")
      // With the application done with them, all of it is given back.
      pair.requests = []
      unread = []
      let (near, far) = try await pair.tunnel()
      far.respond([(":status", "200")].headers, endStream: false)
      let (client, server) = (MemoryEnd(near), MemoryEnd(far))
      client.send(bytes)
      await loop.until { server.receivedCount == bytes.count }
      #expect(server.receivedCount == bytes.count)
    }
  }

  @Test("a reset reaches the other side with its code")
  func reset() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      far.respond([(":status", "200")].headers, endStream: false)
      let server = MemoryEnd(far)
      _ = await near.waitForResponse()
      near.reset(.connectError)
      await loop.until { server.closed != nil }
      #expect(server.closed == .reset(.connectError))
    }
  }

  @Test("the loss of the connection ends every stream with the reason")
  func connectionLost() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      let client = MemoryEnd(near)
      _ = MemoryEnd(far)
      pair.server.close(.closedLocally)
      await loop.until { client.closed != nil }
      #expect(client.closed == .connectionLost(.closedByPeer))
      #expect(throws: HTTP2Error.unavailable) { try pair.client.open([(":method", "CONNECT")].headers) }
    }
  }

  @Test("a graceful shutdown lets open streams finish, takes no new ones, and then closes")
  func graceful() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      far.respond([(":status", "200")].headers, endStream: false)
      let (client, server) = (MemoryEnd(near), MemoryEnd(far))
      pair.server.shutDownGracefully()
      await loop.until { pair.client.isDraining }
      #expect(pair.client.isDraining)
      await loop.sleep(for: .milliseconds(1200))
      client.send("late".utf8)
      await loop.until { server.receivedCount == 4 }
      #expect(server.received == Array("late".utf8))
      client.finish()
      server.finish()
      await loop.until { pair.client.closed != nil && pair.server.closed != nil }
      #expect(client.closed == .complete)
      #expect(pair.server.closed == .closedLocally)
      #expect(pair.client.closed != nil)
    }
  }

  @Test("more header bytes than allowed reset the stream, not the connection")
  func headerFlood() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      _ = await pair.establish()
      var headers = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")].headers
      for index in 0..<20 { headers.append("x-filler-\(index)", String(repeating: "y", count: 4000)) }
      let near = try pair.client.open(headers)
      let end = await near.waitForResponse()
      guard case .reset = end else {
        Issue.record("expected a reset, got \(String(describing: end))")
        return
      }
      #expect(pair.requests.isEmpty)
      _ = try await pair.tunnel()
      #expect(pair.requests.count == 1)
    }
  }

  @Test("a handshake that nobody answers ends at its deadline")
  func slowHandshake() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try ConnectedPair(mesh, loop: loop)
      var outcome: HTTP2ConnectionError?
      do throws(HTTP2ConnectionError) { try await pair.server.establish(until: .now + .milliseconds(50)) } catch {
        outcome = error
      }
      #expect(outcome == .deadline(.tlsHandshake))
    }
  }

  @Test("a silent peer is given up after the ping deadline, a talking one is not")
  func ping() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let keepAlive = HTTP2KeepAlive(interval: .milliseconds(50), deadline: .milliseconds(200))
      let pair = try ConnectedPair(mesh, loop: loop, keepAlive: keepAlive)
      _ = await pair.establish()
      await loop.sleep(for: .milliseconds(500))
      #expect(pair.client.closed == nil, "pings are answered")
    }
  }

  @Test("bytes that are no TLS are named as such", arguments: ["GET / HTTP/1.1\r\n\r\n", "\u{0}\u{1}\u{2}garbage"])
  func notTLS(text: String) async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      var pair: [CInt] = [0, 0]
      precondition(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0, &pair) == 0)
      defer { Glibc.close(pair[1]) }
      let nowhere = SocketAddress(.loopback(.v4), 0)
      let server = try HTTP2Connection(
        role: .server, socket: SharedDescriptor(Descriptor(owning: pair[0])), peer: nowhere, local: nowhere,
        ssl: mesh.server.makeSSL(),
        settings: .server, loop: loop, buffers: WorkBuffers())
      _ = text.withCString { write(pair[1], $0, text.utf8.count) }
      var outcome: HTTP2ConnectionError?
      do throws(HTTP2ConnectionError) { try await server.establish(until: .now + .seconds(5)) } catch {
        outcome = error
      }
      #expect(outcome?.code == "TLS_NOT_TLS")
    }
  }

  @Test("what a peer does wrong is the reason of the end, and the peer is told before", arguments: [false, true])
  func protocolErrors(speaksHTTP2: Bool) async throws {
    let sent: [UInt8] =
      speaksHTTP2
      // The preface with an empty SETTINGS, and DATA on stream 0.
      ? Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0] + [0, 0, 1, 0, 0, 0, 0, 0, 0, 7]
      : Array("GET / HTTP/1.1\r\nHost: here\r\n\r\n".utf8)
    try await onLoop { loop in
      var pair: [CInt] = [0, 0]
      precondition(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0, &pair) == 0)
      defer { Glibc.close(pair[1]) }
      let server = try HTTP2Connection(
        role: .server, plaintext: SharedDescriptor(Descriptor(owning: pair[0])),
        place: SocketAddress(.loopback(.v4), 0), settings: .server, loop: loop, buffers: WorkBuffers())
      var reason: HTTP2ConnectionError?
      server.onClose = { reason = $0 }
      _ = write(pair[1], sent, sent.count)
      try? await server.establish(until: .now + .seconds(5))
      await loop.until { reason != nil }
      guard case .http2 = reason else {
        Issue.record("expected a protocol error, got \(reason.map { $0.summary } ?? "none")")
        return
      }
      var answer = [UInt8](repeating: 0, count: 4096)
      let count = max(0, read(pair[1], &answer, answer.count))
      // The frame's type is GOAWAY, and its error code PROTOCOL_ERROR.
      let goAway: [UInt8] = [7, 0, 0, 0, 0, 0]
      #expect((answer.prefix(count).firstRange(of: goAway) != nil) == speaksHTTP2, "\(answer.prefix(count))")
    }
  }
}
