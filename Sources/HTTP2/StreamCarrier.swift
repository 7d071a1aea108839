import Glibc
import Linux

/// Carries a connection's ciphertext over a stream of another connection: a tunnel in a tunnel (hbone.md §11).
///
/// It behaves as a socket does: bytes wait on either side of it, within bounds, and readiness is told after the events at
/// hand, never from inside a call of the outer connection, whose buffers the inner one shares.
final class StreamCarrier: HTTP2StreamHandler {
  private let stream: HTTP2Stream
  private let loop: EventLoop
  private var listener: ((ReadyEvents) -> Void)?
  private var pendingEvents: ReadyEvents = []

  /// What came in; the outer stream's window bounds it, since credit goes back as it is read.
  private var incoming = ByteQueue()
  private var incomingEnded = false
  private var outgoing = ByteQueue()
  private var refusedBytes = false
  private var failure: HTTP2ConnectionError?
  private var isClosed = false
  private var isOver = false

  /// Ciphertext that waits for the outer stream: what the outer connection sends at once.
  static let capacity = 256 << 10
  /// Time the far end may take to end its side after this one has.
  static let lingerLimit = Duration.seconds(5)

  init(_ stream: HTTP2Stream, loop: EventLoop) {
    self.stream = stream
    self.loop = loop
  }

  /// Reports readiness to `listener` from now on; it is kept until ``close()``.
  func start(_ listener: @escaping (ReadyEvents) -> Void) {
    self.listener = listener
    stream.handler = self
    notify(.writable)
  }

  // MARK: The inner connection's side

  func read(into room: UnsafeMutableRawBufferPointer) -> HTTP2Carrier.Read {
    let count = incoming.take(into: room)
    if count > 0 {
      stream.consume(count)
      return .bytes(count)
    }
    if let failure { return .failed(failure) }
    return incomingEnded ? .ended : .wouldBlock
  }

  func write(_ bytes: UnsafeRawBufferPointer) -> HTTP2Carrier.Write {
    guard !isOver, !isClosed else { return .broken }
    let room = max(0, Self.capacity - outgoing.count)
    let count = min(room, bytes.count)
    if count < bytes.count { refusedBytes = true }
    if count > 0 {
      outgoing.append(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
      stream.resumeSending()
    }
    return .taken(count)
  }

  /// Sends what is left, then the end; a far end that does not follow in time is reset.
  func close() {
    guard !isClosed else { return }
    isClosed = true
    listener = nil
    stream.consume(incoming.count)
    incoming = ByteQueue()
    guard !isOver else { return }
    stream.resumeSending()
    _ = loop.schedule(after: Self.lingerLimit) { [weak self] in
      guard let self, !isOver else { return }
      isOver = true
      stream.reset(.cancel)
    }
  }

  // MARK: The outer stream's side

  func streamSupply(_ room: UnsafeMutableRawBufferPointer) -> HTTP2Supply {
    let count = outgoing.take(into: room)
    if refusedBytes, outgoing.count <= Self.capacity / 2 {
      refusedBytes = false
      notify(.writable)
    }
    if count > 0 { return .bytes(count) }
    return isClosed ? .end : .nothingYet
  }

  func streamReceived(_ chunk: UnsafeRawBufferPointer) {
    guard !isClosed else { return stream.consume(chunk.count) }
    incoming.append(chunk)
  }

  func streamReceivedEnd() {
    incomingEnded = true
    notify([.readable, .peerClosed])
  }

  func streamRoundEnded() {
    if !incoming.isEmpty { notify(.readable) }
  }

  func streamClosed(_ end: HTTP2StreamEnd) {
    isOver = true
    outgoing = ByteQueue()
    incomingEnded = true
    switch end {
    case .complete, .reset(.noError): break
    case .reset: failure = .io(SystemError("recv", ECONNRESET))
    case .connectionLost(let error): failure = error
    }
    notify([.readable, .peerClosed])
  }

  private func notify(_ events: ReadyEvents) {
    guard listener != nil else { return }
    let isScheduled = !pendingEvents.isEmpty
    pendingEvents.formUnion(events)
    guard !isScheduled else { return }
    loop.afterEvents { [self] in
      let events = pendingEvents
      pendingEvents = []
      listener?(events)
    }
  }
}

/// Bytes in order. Empty, it holds no memory.
struct ByteQueue {
  private var bytes: [UInt8] = []
  private var start = 0

  var count: Int { bytes.count - start }
  var isEmpty: Bool { count == 0 }

  mutating func append(_ chunk: UnsafeRawBufferPointer) {
    // What was taken is given back before more is added: a queue that is never quite empty must not grow for ever.
    if start > 1 << 16, start > bytes.count / 2 {
      bytes.removeFirst(start)
      start = 0
    }
    bytes.append(contentsOf: chunk)
  }

  /// Moves as many bytes as fit into `room`; returns how many.
  mutating func take(into room: UnsafeMutableRawBufferPointer) -> Int {
    let count = min(count, room.count)
    guard count > 0 else { return 0 }
    bytes.withUnsafeBytes { room.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<start + count])) }
    start += count
    if start == bytes.count {
      bytes = []
      start = 0
    }
    return count
  }
}
