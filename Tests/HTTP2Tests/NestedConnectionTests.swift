import Linux
import Testing
import Vocabulary

@testable import HTTP2

/// A connection inside a stream of another, all on one loop with the same buffers.
private final class NestedPair {
  let outer: ConnectedPair
  let near: HTTP2Stream
  let far: HTTP2Stream
  let client: HTTP2Connection
  let server: HTTP2Connection
  var requests: [HTTP2Stream] = []

  init(_ mesh: TestMesh, loop: EventLoop, expecting: SPIFFEIdentity? = nil) async throws {
    outer = try ConnectedPair(mesh, loop: loop)
    _ = await outer.establish()
    (near, far) = try await outer.tunnel()
    far.respond([(":status", "200")].headers, endStream: false)
    _ = await near.waitForResponse()
    let nowhere = SocketAddress(.loopback(.v4), 0)
    client = try HTTP2Connection(
      role: .client, over: near, peer: nowhere, local: nowhere,
      ssl: mesh.client.makeSSL(expecting: [expecting ?? mesh.serverIdentity]), settings: .client, loop: loop,
      buffers: outer.buffers)
    server = try HTTP2Connection(
      role: .server, over: far, peer: nowhere, local: nowhere, ssl: mesh.server.makeSSL(), settings: .server,
      loop: loop, buffers: outer.buffers)
    server.onRequest = { [unowned self] in requests.append($0) }
  }

  func establish() async -> (client: HTTP2ConnectionError?, server: HTTP2ConnectionError?) {
    let server = self.server
    var serverOutcome: HTTP2ConnectionError??
    outer.loop.spawn {
      do throws(HTTP2ConnectionError) {
        try await server.establish(until: .now + .seconds(5))
        serverOutcome = .some(nil)
      } catch { serverOutcome = error }
    }
    var clientOutcome: HTTP2ConnectionError?
    do throws(HTTP2ConnectionError) { try await client.establish(until: .now + .seconds(5)) } catch {
      clientOutcome = error
    }
    await outer.loop.until { serverOutcome != nil }
    return (clientOutcome, serverOutcome ?? nil)
  }

  func tunnel() async throws -> (near: HTTP2Stream, far: HTTP2Stream) {
    let stream = try client.open([(":method", "CONNECT"), (":authority", "shop.example:80")].headers)
    await outer.loop.until { !self.requests.isEmpty }
    let request = try #require(requests.last)
    request.respond([(":status", "200")].headers, endStream: false)
    _ = await stream.waitForResponse()
    return (stream, request)
  }
}

@Suite("A connection in a stream of another")
struct NestedConnectionTests {
  @Test("proves who its ends are, as one on a socket does")
  func identities() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try await NestedPair(mesh, loop: loop)
      let outcome = await pair.establish()
      #expect(outcome.client == nil && outcome.server == nil)
      #expect(pair.client.peerIdentity == mesh.serverIdentity)
      #expect(pair.server.peerIdentity == mesh.clientIdentity)
    }
  }

  @Test("with another server than expected is refused, both sides know why, and the stream below ends")
  func wrongIdentity() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let other = SPIFFEIdentity(trustDomain: "td", namespace: "ns", serviceAccount: "other")
      let pair = try await NestedPair(mesh, loop: loop, expecting: other)
      let outcome = await pair.establish()
      #expect(outcome.client?.code == "TLS_PEER_WRONG_IDENTITY")
      #expect(outcome.server?.code == "TLS_ALERT_RECEIVED")
      await loop.until { pair.near.end != nil && pair.far.end != nil }
      #expect(pair.near.end == .complete)
      #expect(pair.outer.client.closed == nil)
    }
  }

  @Test("moves 8 MiB both ways at once unharmed")
  func bulk() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try await NestedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      let (client, server) = (MemoryEnd(near), MemoryEnd(far))
      let up = (0..<8 << 20).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 11) }
      let down = (0..<8 << 20).map { UInt8(truncatingIfNeeded: $0 &* 13 &+ $0 >> 9) }
      client.send(up)
      client.finish()
      server.send(down)
      server.finish()
      await loop.until { client.closed != nil && server.closed != nil }
      #expect(server.received == up)
      #expect(client.received == down)
      #expect(client.closed == .complete && server.closed == .complete)
    }
  }

  @Test("stops its sender when its receiver stops, and the stream below holds no more than windows allow")
  func backPressure() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try await NestedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      let (client, server) = (MemoryEnd(near), MemoryEnd(far))
      server.drains = false
      client.send([UInt8](repeating: 1, count: 16 << 20))
      await loop.until { server.receivedCount >= 4 << 20 }
      await loop.sleep(for: .milliseconds(50))
      #expect(server.receivedCount == 4 << 20)
      #expect(client.supplied <= 5 << 20)
      server.drains = true
      far.consume(server.receivedCount)
      await loop.until { server.receivedCount == 16 << 20 }
      #expect(server.receivedCount == 16 << 20)
    }
  }

  @Test("passes a reset on, through both")
  func reset() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try await NestedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      let (client, server) = (MemoryEnd(near), MemoryEnd(far))
      client.send("x".utf8)
      await loop.until { server.receivedCount == 1 }
      near.reset(.connectError)
      await loop.until { server.closed != nil }
      #expect(server.closed == .reset(.connectError))
      #expect(pair.client.closed == nil)
    }
  }

  @Test("is lost when the stream below is reset, and says so to its own streams")
  func outerReset() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try await NestedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      let (client, server) = (MemoryEnd(near), MemoryEnd(far))
      pair.far.reset(.cancel)
      await loop.until { client.closed != nil }
      guard case .connectionLost(.io) = client.closed else {
        Issue.record("\(String(describing: client.closed))")
        return
      }
      #expect(pair.client.closed != nil)
      pair.server.close(.closedLocally)
      #expect(server.closed == .connectionLost(.closedLocally))
    }
  }

  @Test("is lost when the connection below is, with its reason")
  func outerLost() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try await NestedPair(mesh, loop: loop)
      _ = await pair.establish()
      pair.outer.client.close(.deadline(.ping))
      await loop.until { pair.client.closed != nil && pair.server.closed != nil }
      #expect(pair.client.closed == .deadline(.ping))
      #expect(pair.server.closed == .closedByPeer)
    }
  }

  @Test("that shuts down sends what its last stream had left, then ends the stream below")
  func graceful() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let pair = try await NestedPair(mesh, loop: loop)
      _ = await pair.establish()
      let (near, far) = try await pair.tunnel()
      let (client, server) = (MemoryEnd(near), MemoryEnd(far))
      pair.client.onIdle = { [weak inner = pair.client] in loop.afterEvents { inner?.shutDownGracefully() } }
      client.send([UInt8](repeating: 7, count: 3 << 20))
      client.finish()
      server.finish()
      await loop.until { server.sawEnd && pair.near.end != nil }
      #expect(server.receivedCount == 3 << 20)
      #expect(pair.client.closed == .closedLocally)
      #expect(pair.near.end == .complete)
      #expect(pair.outer.client.closed == nil && pair.outer.client.streamCount == 0)
    }
  }

  @Test("does not wait for ever for a far end that does not end")
  func lingering() async throws {
    let mesh = try TestMesh()
    try await onLoop { loop in
      let outer = try ConnectedPair(mesh, loop: loop)
      _ = await outer.establish()
      let (near, far) = try await outer.tunnel()
      let silent = MemoryEnd(far)
      far.respond([(":status", "200")].headers, endStream: false)
      _ = await near.waitForResponse()
      let nowhere = SocketAddress(.loopback(.v4), 0)
      let client = try HTTP2Connection(
        role: .client, over: near, peer: nowhere, local: nowhere,
        ssl: mesh.client.makeSSL(expecting: [mesh.serverIdentity]), settings: .client, loop: loop,
        buffers: outer.buffers)
      await #expect(throws: HTTP2ConnectionError.deadline(.tlsHandshake)) {
        try await client.establish(until: .now + .milliseconds(50))
      }
      await loop.until { silent.sawEnd }
      #expect(silent.sawEnd && silent.closed == nil)
      await loop.sleep(for: StreamCarrier.lingerLimit)
      await loop.until { silent.closed != nil }
      #expect(silent.closed == .reset(.cancel))
    }
  }
}
