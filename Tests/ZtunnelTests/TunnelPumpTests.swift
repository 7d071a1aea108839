import Glibc
import HTTP2
import Linux
import TestSupport
import Testing

@testable import Ztunnel

@Suite("The pump between a socket and a tunnel", .serialized)
struct TunnelPumpTests {
  /// One pumped stream: the application on one side, the far end of the tunnel on the other.
  private final class Scene {
    let loop: EventLoop
    let pair: TunnelPair
    let application: Application
    let far: FarEnd
    // Not held: what it owns is closed when it ends.
    weak var pump: TunnelPump?

    init(_ loop: EventLoop, _ pair: TunnelPair, _ application: Application, _ far: FarEnd) {
      self.loop = loop
      self.pair = pair
      self.application = application
      self.far = far
    }
  }

  /// Runs `body` around a pump and returns what came of it. The pump is the tunnel's client, as for an outbound
  /// connection, or its server, as for an inbound one.
  private func pumped(
    _ side: PumpSide = .client, expecting expected: PumpOutcome,
    _ body: @escaping @Sendable (Scene) async throws -> Void
  ) async throws {
    try await onPumpLoop { loop in
      let pair = try await TunnelPair(loop: loop)
      let (client, server) = try await pair.open()
      let box = OutcomeBox()
      let scene: Scene
      do {
        let (socket, application) = try Application.connected()
        let pump = TunnelPump(side == .client ? client : server, socket, socketIs: side, loop: loop)
        scene = Scene(loop, pair, application, FarEnd(side == .client ? server : client))
        scene.pump = pump
        box.watch(pump)
      }
      try await body(scene)
      #expect(await loop.eventually { box.outcome != nil }, "the pump ends")
      #expect(box.outcome == expected)
      pair.close()
    }
  }

  @Test("carries both directions, the end of each on its own, and counts them as the client sees them")
  func halfClose() async throws {
    try await pumped(.client, expecting: PumpOutcome(fromClient: 8, toClient: 10)) { scene in
      scene.application.send("question".utf8)
      scene.application.finish()
      #expect(await scene.loop.eventually { scene.far.hasEnded })
      #expect(scene.far.text == "question")
      scene.application.receive()
      #expect(!scene.application.hasEnded)
      // The last bytes, the end and the close of the stream come in one round.
      scene.far.send("the answer", andFinish: true)
      #expect(
        await scene.loop.eventually {
          scene.application.receive(); return scene.application.hasEnded
        })
      #expect(scene.application.text == "the answer")
      #expect(scene.far.end == .complete)
    }
    try await pumped(.upstream, expecting: PumpOutcome(fromClient: 8, toClient: 10)) { scene in
      scene.far.send("question", andFinish: true)
      #expect(
        await scene.loop.eventually {
          scene.application.receive(); return scene.application.hasEnded
        })
      #expect(scene.application.text == "question")
      scene.application.send("the answer".utf8)
      scene.application.finish()
      #expect(await scene.loop.eventually { scene.far.hasEnded })
      #expect(scene.far.text == "the answer")
    }
  }

  @Test("holds the far end back at the window while the application does not read, and loses nothing")
  func backPressure() async throws {
    let count = 32 << 20
    try await pumped(.client, expecting: PumpOutcome(fromClient: 0, toClient: UInt64(count))) { scene in
      scene.far.sendPattern(count)
      await scene.loop.sleep(for: .milliseconds(500))
      let stalled = scene.far.supplied
      // The stream's window and what the kernel's two buffers took.
      #expect(stalled < 20 << 20, "\(stalled) bytes were let through")
      #expect(
        await scene.loop.eventually {
          scene.application.receive(); return scene.application.received.count == count
        })
      #expect(BytePattern.matches(scene.application.received, at: 0))
      scene.far.finish()
      scene.application.finish()
    }
  }

  @Test("moves much towards the tunnel, unharmed")
  func upload() async throws {
    let count = 16 << 20
    try await pumped(.client, expecting: PumpOutcome(fromClient: UInt64(count), toClient: 0)) { scene in
      #expect(
        await scene.loop.eventually {
          scene.application.sendPattern(upTo: count)
          return scene.far.received.count == count
        })
      #expect(BytePattern.matches(scene.far.received, at: 0))
      scene.application.finish()
      scene.far.finish()
    }
  }

  @Test("tells the far end that the application has reset its connection")
  func applicationReset() async throws {
    try await pumped(.client, expecting: PumpOutcome(fromClient: 1, toClient: 0)) { scene in
      scene.application.send("x".utf8)
      #expect(await scene.loop.eventually { scene.far.text == "x" })
      scene.application.reset()
      #expect(await scene.loop.eventually { scene.far.end != nil })
      #expect(scene.far.end == .reset(.connectError))
    }
  }

  @Test("notices the application's reset even while the far end's window is used up")
  func resetBehindFullWindow() async throws {
    try await onPumpLoop { loop in
      let pair = try await TunnelPair(loop: loop)
      let (client, server) = try await pair.open()
      let (socket, application) = try Application.connected()
      let pump = TunnelPump(client, socket, socketIs: .client, loop: loop)
      let box = OutcomeBox()
      box.watch(pump)
      // Nobody reads at the far end: there is no handler.
      #expect(await loop.eventually { application.sendPattern(upTo: 64 << 20) > 6 << 20 })
      await loop.sleep(for: .milliseconds(200))
      application.reset()
      #expect(await loop.eventually { box.outcome != nil })
      #expect(await loop.eventually { server.end != nil })
      #expect(server.end == .reset(.connectError))
      pair.close()
    }
  }

  @Test(
    "turns the far end's reset into the end that it means",
    arguments: [
      (HTTP2ErrorCode.noError, nil as String?), (.cancel, nil), (.connectError, nil), (.streamClosed, nil),
      (.internalError, "RECEIVE_FAILED"), (.enhanceYourCalm, "RECEIVE_FAILED"),
    ])
  func farReset(code: HTTP2ErrorCode, failure: String?) async throws {
    let error = failure.map { _ in ProxyError.receive("stream reset: \(code)") }
    #expect(error?.code == failure)
    try await pumped(.client, expecting: PumpOutcome(fromClient: 1, toClient: 2, failure: error)) { scene in
      scene.application.send("x".utf8)
      #expect(await scene.loop.eventually { scene.far.text == "x" })
      scene.far.send("ok")
      #expect(
        await scene.loop.eventually {
          scene.application.receive(); return scene.application.text == "ok"
        })
      scene.far.stream.reset(code)
      #expect(
        await scene.loop.eventually {
          scene.application.receive()
          return scene.application.hasEnded || scene.application.error != nil
        })
      #expect(scene.application.error == (code == .noError ? nil : ECONNRESET))
    }
  }

  @Test("ends with the reason when the tunnel is lost")
  func connectionLost() async throws {
    let lost = HTTP2ConnectionError.closedByPeer.summary
    try await pumped(.client, expecting: PumpOutcome(failure: .receive(lost))) { scene in
      scene.pair.server.close(.closedLocally)
      #expect(
        await scene.loop.eventually {
          scene.application.receive(); return scene.application.error != nil
        })
    }
    try await pumped(.upstream, expecting: PumpOutcome(failure: .send(lost))) { scene in
      scene.pair.client.close(.closedLocally)
      #expect(
        await scene.loop.eventually {
          scene.application.receive(); return scene.application.error != nil
        })
    }
  }

  @Test("resets both sides when it is aborted, with the first reason")
  func abort() async throws {
    try await pumped(.upstream, expecting: PumpOutcome(fromClient: 1, toClient: 0, failure: .drained)) { scene in
      scene.far.send("x")
      #expect(
        await scene.loop.eventually {
          scene.application.receive(); return scene.application.text == "x"
        })
      scene.pump?.abort(.drained)
      scene.pump?.abort(.recursiveCall)
      #expect(await scene.loop.eventually { scene.far.end != nil })
      #expect(scene.far.end == .reset(.cancel))
      #expect(
        await scene.loop.eventually {
          scene.application.receive(); return scene.application.error != nil
        })
    }
  }

  @Test("passes on what came before it was there, and an end that came with it")
  func early() async throws {
    try await onPumpLoop { loop in
      let pair = try await TunnelPair(loop: loop)
      let (client, server) = try await pair.open()
      let far = FarEnd(client)
      far.send("early", andFinish: true)
      #expect(await loop.eventually { server.receivedEnd })
      let box = OutcomeBox()
      let application: Application
      do {
        let (socket, near) = try Application.connected()
        application = near
        let pump = TunnelPump(server, socket, socketIs: .upstream, loop: loop)
        box.watch(pump)
      }
      #expect(
        await loop.eventually {
          application.receive(); return application.hasEnded
        })
      #expect(application.text == "early")
      application.finish()
      #expect(await loop.eventually { box.outcome != nil })
      #expect(box.outcome == PumpOutcome(fromClient: 5, toClient: 0))
      pair.close()
    }
  }
}
