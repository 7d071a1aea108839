import Glibc
import Linux
import TestSupport
import Testing

@testable import Ztunnel

@Suite("Bytes that wait for a socket")
struct PumpPendingBytesTests {
  private func contents(_ pending: PendingBytes) -> [UInt8] { pending.withBytes { Array($0) } }
  private func append(_ bytes: [UInt8], to pending: inout PendingBytes) {
    bytes.withUnsafeBytes { pending.append($0) }
  }

  @Test("leave in the order in which they came")
  func order() {
    var pending = PendingBytes()
    #expect(pending.isEmpty)
    append([1, 2, 3], to: &pending)
    pending.removeFirst(1)
    append([4], to: &pending)
    #expect(contents(pending) == [2, 3, 4])
    #expect(pending.count == 3)
    pending.removeFirst(3)
    #expect(pending.isEmpty)
    #expect(contents(pending).isEmpty)
  }

  @Test("stay right over many rounds in which the queue is never empty")
  func rounds() {
    var pending = PendingBytes()
    var (put, taken) = (0, 0)
    for round in 0..<2000 {
      append(Array(BytePattern.slice(at: put, count: 1500)), to: &pending)
      put += 1500
      let count = round < 100 ? 200 : min(1500, pending.count - 1)
      guard BytePattern.matches(contents(pending).prefix(count), at: taken) else {
        Issue.record("bytes are lost or doubled at \(taken)")
        return
      }
      pending.removeFirst(count)
      taken += count
    }
    #expect(pending.count == put - taken)
  }
}

@Suite("One direction of a plain connection")
struct PumpCopyDirectionTests {
  private let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 64)

  /// A direction from one application to another.
  private func direction() throws -> (
    copy: CopyDirection, from: Application, to: Application, sockets: [SharedDescriptor]
  ) {
    let (source, from) = try Application.connected()
    let (sink, to) = try Application.connected()
    return (CopyDirection(from: source.raw, to: sink.raw), from, to, [source, sink])
  }

  /// Moves on until `isDone`, the sockets always ready, as edge-triggered events would say in time.
  private func advance(_ copy: CopyDirection, until isDone: (CopyDirection.Step) -> Bool) -> CopyDirection.Step {
    var step = CopyDirection.Step.waiting
    let end = ContinuousClock.now + .seconds(10)
    repeat {
      copy.readable = true
      copy.writable = true
      step = copy.advance(scratch)
      if step == .waiting { usleep(1000) }
    } while !isDone(step) && ContinuousClock.now < end
    return step
  }

  @Test("passes bytes on and counts them, then the end")
  func plain() throws {
    let (copy, from, to, sockets) = try direction()
    defer { scratch.deallocate() }
    from.send("hello".utf8)
    _ = advance(copy) { _ in copy.moved == 5 }
    to.receive()
    #expect(to.text == "hello")
    #expect(!to.hasEnded)
    from.finish()
    #expect(advance(copy) { $0 == .finished } == .finished)
    #expect(copy.moved == 5)
    #expect(copy.advance(scratch) == .finished, "asking again changes nothing")
    #expect(
      eventually {
        to.receive(); return to.hasEnded
      })
    withExtendedLifetime(sockets) {}
  }

  @Test("loses nothing when the reader stops, neither in the copy nor in the pipe", arguments: [1 << 19, 24 << 20])
  func backPressure(count: Int) throws {
    let (copy, from, to, sockets) = try direction()
    defer { scratch.deallocate() }
    var sent = 0
    var stalls = 0
    var step = CopyDirection.Step.waiting
    let end = ContinuousClock.now + .seconds(30)
    while step != .finished, ContinuousClock.now < end {
      if sent < count {
        sent = from.sendPattern(upTo: count)
        if sent == count { from.finish() }
      }
      copy.readable = true
      copy.writable = true
      step = copy.advance(scratch)
      if case .failed = step { break }
      // The reader takes something only when everything before it is full.
      if step == .waiting, !copy.writable || sent == count {
        stalls += 1
        to.receive()
      }
    }
    #expect(step == .finished)
    #expect(copy.moved == UInt64(count))
    #expect(stalls > 0)
    #expect(
      eventually {
        to.receive(); return to.hasEnded
      })
    #expect(to.received.count == count)
    #expect(BytePattern.matches(to.received, at: 0))
    withExtendedLifetime(sockets) {}
  }

  @Test("says which side failed")
  func failures() throws {
    let (copy, from, to, sockets) = try direction()
    defer { scratch.deallocate() }
    from.reset()
    let reading = advance(copy) { if case .failed = $0 { true } else { false } }
    #expect(reading == .failed(ECONNRESET, whileReading: true))
    _ = to
    let (other, writer, reader, more) = try direction()
    reader.reset()
    writer.send("x".utf8)
    let writing = advance(other) { if case .failed = $0 { true } else { writer.send("x".utf8) < 0 } }
    guard case .failed(let number, whileReading: false) = writing else {
      Issue.record("\(writing)")
      return
    }
    #expect([EPIPE, ECONNRESET].contains(number))
    withExtendedLifetime((sockets, more)) {}
  }
}

@Suite("The pump between two sockets", .serialized)
struct PumpSocketTests {
  /// Not held: what a pump owns is closed when it ends.
  private final class Running {
    weak var pump: SocketPump?
  }

  /// Runs a pump between two applications.
  private func pumped(
    expecting expected: PumpOutcome,
    _ body:
      @escaping @Sendable (EventLoop, Running, _ client: Application, _ upstream: Application) async throws -> Void
  ) async throws {
    try await onPumpLoop { loop in
      let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 64)
      defer { scratch.deallocate() }
      let (client, upstream): (Application, Application)
      let box = OutcomeBox()
      let running = Running()
      do {
        let near = try Application.connected()
        let far = try Application.connected()
        (client, upstream) = (near.application, far.application)
        let pump = SocketPump(client: near.pumped, upstream: far.pumped, loop: loop, scratch: scratch)
        running.pump = pump
        box.watch(pump)
      }
      try await body(loop, running, client, upstream)
      #expect(await loop.eventually { box.outcome != nil }, "the pump ends")
      #expect(box.outcome == expected)
    }
  }

  @Test("leaves one direction open when the other has ended, and counts both")
  func halfClose() async throws {
    try await pumped(expecting: PumpOutcome(fromClient: 8, toClient: 10, failure: nil)) { loop, _, client, upstream in
      client.send("question".utf8)
      client.finish()
      #expect(
        await loop.eventually {
          upstream.receive(); return upstream.hasEnded
        })
      #expect(upstream.text == "question")
      client.receive()
      #expect(!client.hasEnded)
      upstream.send("the answer".utf8)
      upstream.finish()
      #expect(
        await loop.eventually {
          client.receive(); return client.hasEnded
        })
      #expect(client.text == "the answer")
    }
  }

  @Test("moves much in both directions at once, unharmed")
  func bulk() async throws {
    let count = 16 << 20
    try await pumped(expecting: PumpOutcome(fromClient: UInt64(count), toClient: UInt64(count), failure: nil)) {
      loop, _, client, upstream in
      let isDone = await loop.eventually {
        client.sendPattern(upTo: count)
        upstream.sendPattern(upTo: count)
        client.receive()
        upstream.receive()
        return client.received.count == count && upstream.received.count == count
      }
      #expect(isDone)
      #expect(BytePattern.matches(client.received, at: 0))
      #expect(BytePattern.matches(upstream.received, at: 0))
      client.finish()
      upstream.finish()
    }
  }

  @Test("takes a reset of either side for an end, and passes it on")
  func reset() async throws {
    for resetsClient in [true, false] {
      try await pumped(expecting: PumpOutcome(fromClient: 1, toClient: 0, failure: nil)) { loop, _, client, upstream in
        client.send("x".utf8)
        #expect(
          await loop.eventually {
            upstream.receive(); return !upstream.received.isEmpty
          })
        let other = resetsClient ? upstream : client
        (resetsClient ? client : upstream).reset()
        #expect(
          await loop.eventually {
            other.receive(); return other.error == ECONNRESET
          })
      }
    }
  }

  @Test("ends both sides when it is aborted, with the reason")
  func abort() async throws {
    try await pumped(expecting: PumpOutcome(fromClient: 1, toClient: 0, failure: .drained)) {
      loop, running, client, _ in
      client.send("x".utf8)
      await loop.sleep(for: .milliseconds(20))
      running.pump?.abort(.drained)
      running.pump?.abort(.recursiveCall)
      #expect(
        await loop.eventually {
          client.receive(); return client.error == ECONNRESET
        })
    }
  }
}
