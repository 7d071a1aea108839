import HTTP2
import Linux

/// A peer's end of a stream, in memory: sends what it is given, keeps or drops what comes, drains or does not.
final class HostileStream: HTTP2StreamHandler {
  let stream: HTTP2Stream
  private(set) var received: [UInt8] = []
  private(set) var receivedCount = 0
  private(set) var hasEnded = false
  private(set) var end: HTTP2StreamEnd?
  /// Sends back what comes, and ends when the other side has.
  let echoes: Bool
  /// Gives credit back as bytes come.
  let drains: Bool
  private var outgoing: [UInt8] = []
  private var isFinished = false

  init(_ stream: HTTP2Stream, echoes: Bool = false, drains: Bool = true) {
    self.stream = stream
    self.echoes = echoes
    self.drains = drains
    stream.handler = self
    stream.resumeSending()
  }

  func send(_ bytes: some Sequence<UInt8>) {
    outgoing.append(contentsOf: bytes)
    stream.resumeSending()
  }

  func finish() {
    isFinished = true
    stream.resumeSending()
  }

  func streamSupply(_ room: UnsafeMutableRawBufferPointer) -> HTTP2Supply {
    guard !outgoing.isEmpty else { return isFinished ? .end : .nothingYet }
    let count = min(room.count, outgoing.count)
    outgoing.withUnsafeBytes { room.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<count])) }
    outgoing.removeFirst(count)
    return .bytes(count)
  }

  func streamReceived(_ chunk: UnsafeRawBufferPointer) {
    receivedCount += chunk.count
    if echoes {
      outgoing.append(contentsOf: chunk)
    } else if receivedCount <= 1 << 20 {
      received.append(contentsOf: chunk)
    }
    if drains { stream.consume(chunk.count) }
  }

  func streamReceivedEnd() {
    hasEnded = true
    if echoes { isFinished = true }
  }

  func streamRoundEnded() {
    if echoes { stream.resumeSending() }
  }

  func streamClosed(_ end: HTTP2StreamEnd) { self.end = end }
}

/// Runs `body` on a loop that ends with it.
func onPeerLoop<Result: Sendable>(
  _ body: @escaping @Sendable (EventLoop) async throws -> Result
) async throws -> Result {
  let loop = try EventLoop(name: "peer")
  try loop.start()
  defer {
    loop.stop()
    loop.join()
  }
  return try await withCheckedThrowingContinuation { continuation in
    loop.spawn {
      do { continuation.resume(returning: try await body(loop)) } catch { continuation.resume(throwing: error) }
    }
  }
}
