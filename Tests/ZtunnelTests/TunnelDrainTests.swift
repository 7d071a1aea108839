import HTTP2
import Linux
import TestSupport
import Testing

@testable import Ztunnel

@Suite("A tunnel that is drained")
struct TunnelDrainTests {
  @Test("sends the last byte of its last stream before it closes")
  func lastBytes() async throws {
    let count = 1 << 20
    try await onPumpLoop { loop in
      let pair = try await TunnelPair(loop: loop, sendBuffer: 8192)
      let (client, server) = try await pair.open()
      let (near, far) = (FarEnd(client), FarEnd(server))
      near.finish()
      #expect(await loop.eventually { far.hasEnded })
      pair.server.shutDownGracefully()
      far.sendPattern(count)
      far.finish()
      #expect(await loop.eventually { near.end != nil })
      #expect(near.end == .complete)
      #expect(near.received.count == count)
      #expect(
        await loop.eventually { pair.server.closed != nil && pair.client.closed != nil }, "and then it does close")
    }
  }
}
