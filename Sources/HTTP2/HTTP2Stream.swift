import CNghttp2

/// What a handler has for the peer at the moment.
public enum HTTP2Supply: Equatable, Sendable {
  /// This many bytes were put into the room; at least 1.
  case bytes(Int)
  /// Nothing now; ``HTTP2Stream/resumeSending()`` will say when.
  case nothingYet
  /// No more will come: the stream's sending side ends.
  case end
  /// The source failed: the stream is reset.
  case failed(HTTP2ErrorCode)
}

/// How a stream came to its end.
public enum HTTP2StreamEnd: Equatable, Sendable {
  /// Both sides have sent their end.
  case complete
  /// The peer reset it.
  case reset(HTTP2ErrorCode)
  /// The connection below it is gone.
  case connectionLost(HTTP2ConnectionError)
}

/// The application's side of one stream. Called on the connection's loop; may call the stream, not the connection.
public protocol HTTP2StreamHandler: AnyObject {
  /// The peer can take up to `room.count` bytes.
  func streamSupply(_ room: UnsafeMutableRawBufferPointer) -> HTTP2Supply
  /// Bytes came in. The memory is valid until ``streamRoundEnded()`` returns, so that several chunks can be written
  /// with one call; ``HTTP2Stream/consume(_:)`` gives the peer its credit back.
  func streamReceived(_ chunk: UnsafeRawBufferPointer)
  /// The fields after the last byte are here; the end follows. Without an implementation they are not looked at.
  func streamReceivedTrailers(_ trailers: HTTP2Headers)
  /// The peer sends no more.
  func streamReceivedEnd()
  /// What has come in at once is complete.
  func streamRoundEnded()
  /// The stream is over; nothing is called after this.
  func streamClosed(_ end: HTTP2StreamEnd)
}

extension HTTP2StreamHandler {
  public func streamReceivedTrailers(_ trailers: HTTP2Headers) {}
}

/// One request and its answer, or one tunnel. Belongs to its connection's loop.
public final class HTTP2Stream {
  public internal(set) var id: Int32 = -1
  /// What came in: a request's fields at a server, the answer's at a client once it is here.
  public internal(set) var headers = HTTP2Headers()
  /// The fields after the last byte, once they are here (RFC 9113 §8.1).
  public internal(set) var trailers: HTTP2Headers?
  /// The peer has ended its sending side.
  public internal(set) var receivedEnd = false
  /// How it ended; nil while it lives.
  public internal(set) var end: HTTP2StreamEnd?

  /// Nil once the stream is over: that breaks the cycle, and every call below is then without effect.
  var session: HTTP2Session?
  var headerBytes = 0
  var headersComplete = false
  var touched = false
  /// Bytes received and not consumed yet.
  private(set) var held = 0
  /// Where a closed stream gives back what it still holds: it counts until the application is done with it, else a peer
  /// could fill memory with streams that it closes.
  private weak var creditor: HTTP2Session?
  /// What came before there was a handler. The stream's window bounds it, since nothing of it is consumed.
  private var early: [UInt8] = []
  private var responseWaiter: ((HTTP2StreamEnd?) -> Void)?

  init(session: HTTP2Session) {
    self.session = session
  }

  deinit {
    if held > 0 { creditor?.release(held) }
  }

  /// Takes over the stream's bytes. What came before is delivered at once. Setting it again replaces the handler.
  public var handler: (any HTTP2StreamHandler)? {
    didSet { if handler != nil { deliverEarly() } }
  }

  // MARK: For the application

  /// Sends response fields. With `endStream` the sending side ends, else bytes are asked of the handler.
  public func respond(_ headers: HTTP2Headers, endStream: Bool) {
    session?.submitResponse(self, headers, endStream: endStream)
  }

  /// The handler has bytes again after ``HTTP2Supply/nothingYet``.
  public func resumeSending() {
    session?.resume(self)
  }

  /// Gives the memory of ``headers`` back, when all of them that matter have been read.
  public func forgetHeaders() {
    headers = HTTP2Headers()
  }

  /// The application is done with `count` received bytes.
  public func consume(_ count: Int) {
    held -= count
    if let session { session.consume(self, count) } else { creditor?.release(count) }
  }

  /// Ends the stream abruptly. The handler is not called again; whoever waits for the response goes on at once.
  public func reset(_ code: HTTP2ErrorCode) {
    handler = nil
    session?.submitReset(self, code)
    responseWaiter?(.reset(code))
    responseWaiter = nil
  }

  /// Suspends until the response's fields are in ``headers`` or the stream is over. Nil means they are here.
  public func waitForResponse() async -> HTTP2StreamEnd? {
    if headersComplete { return nil }
    if let end { return end }
    return await withUnsafeContinuation { continuation in
      responseWaiter = { continuation.resume(returning: $0) }
    }
  }

  // MARK: For the session

  func receivedHeaders() {
    headersComplete = true
    responseWaiter?(nil)
    responseWaiter = nil
  }

  func received(_ chunk: UnsafeRawBufferPointer) {
    held += chunk.count
    if let handler {
      handler.streamReceived(chunk)
    } else {
      early.append(contentsOf: chunk)
    }
  }

  func receivedTrailers() {
    // An empty block has no field that would have made the trailers.
    handler?.streamReceivedTrailers(trailers ?? HTTP2Headers())
  }

  func receivedEndOfStream() {
    receivedEnd = true
    handler?.streamReceivedEnd()
  }

  func supply(_ room: UnsafeMutableRawBufferPointer) -> HTTP2Supply {
    handler?.streamSupply(room) ?? .nothingYet
  }

  func close(_ end: HTTP2StreamEnd) {
    guard self.end == nil else { return }
    self.end = end
    if held > 0 { creditor = session }
    session = nil
    // Nobody will be told of an abandoned stream's first bytes.
    if handler == nil, end != .complete {
      early = []
      creditor?.release(held)
      held = 0
    }
    responseWaiter?(end)
    responseWaiter = nil
    let handler = self.handler
    self.handler = nil
    handler?.streamClosed(end)
  }

  private func deliverEarly() {
    guard let handler else { return }
    if !early.isEmpty {
      let bytes = early
      early = []
      bytes.withUnsafeBytes { chunk in
        handler.streamReceived(chunk)
        handler.streamRoundEnded()
      }
    }
    if let trailers { handler.streamReceivedTrailers(trailers) }
    if receivedEnd {
      handler.streamReceivedEnd()
      handler.streamRoundEnded()
    }
    if let end {
      self.handler = nil
      handler.streamClosed(end)
    }
  }
}
