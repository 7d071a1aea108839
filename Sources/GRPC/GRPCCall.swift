import DequeModule
import HTTP2
import Linux

/// One call: messages both ways until the server says how it ended. Belongs to its channel's loop.
public final class GRPCCall {
  private let stream: HTTP2Stream
  private var deframer: MessageDeframer
  private var timer: LoopTimer?

  private var inbox: Deque<[UInt8]> = []
  private var receiver: (() -> Void)?
  /// Bytes whose credit the server gets back when the messages at hand have been taken.
  private var owed = 0
  private var areHeadersChecked = false
  private var trailers: HTTP2Headers?
  /// How the call ended; nil while it runs.
  private var outcome: GRPCStatus?

  private var outgoing: [UInt8] = []
  private var sent = 0
  private var isFinished = false

  /// Bytes that may wait for a server that does not read.
  static let mostOutgoing = 64 << 20

  init(_ stream: HTTP2Stream, largestMessage: Int, deadline: ContinuousClock.Instant?, loop: EventLoop) {
    self.stream = stream
    deframer = MessageDeframer(limit: largestMessage)
    if let deadline {
      timer = loop.schedule(at: deadline) { [weak self] in
        self?.abort(GRPCStatus(.deadlineExceeded, "the server did not finish in time"))
      }
    }
    stream.handler = self
  }

  // MARK: For the application

  /// Queues a message. Without effect once the call is over.
  public func send(_ message: [UInt8]) {
    guard outcome == nil, !isFinished else { return }
    guard outgoing.count - sent + message.count <= Self.mostOutgoing else {
      abort(GRPCStatus(.resourceExhausted, "the server does not read what it is sent"))
      return
    }
    MessageFraming.append(message, to: &outgoing)
    stream.resumeSending()
  }

  /// No more messages will be sent.
  public func finishSending() {
    guard outcome == nil, !isFinished else { return }
    isFinished = true
    stream.resumeSending()
  }

  /// The next message, nil where the server has ended the call with `OK`. One caller at a time. Throws
  /// ``GRPCStatus`` for every other end, after the messages that came before it.
  public func receive() async throws(GRPCStatus) -> [UInt8]? {
    while true {
      if let message = inbox.popFirst() { return message }
      // Credit for what comes next is given when somebody asks for it: a slow reader holds one window and no more.
      settleCredit()
      if let outcome {
        if outcome.status == .ok { return nil }
        throw outcome
      }
      await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
        receiver = { continuation.resume() }
      }
    }
  }

  /// Ends the call at once, at the server too.
  public func cancel() { abort(GRPCStatus(.cancelled, "the call was cancelled")) }

  // MARK: Ends

  private func abort(_ status: GRPCStatus) {
    guard outcome == nil else { return }
    // No byte is taken from a stream that was reset, so nothing may be consumed of it either.
    settleCredit()
    stream.reset(.cancel)
    finish(status)
  }

  private func finish(_ status: GRPCStatus) {
    guard outcome == nil else { return }
    outcome = status
    timer?.cancel()
    timer = nil
    outgoing = []
    sent = 0
    wakeReceiver()
  }

  private func wakeReceiver() {
    let wake = receiver
    receiver = nil
    wake?()
  }

  private func settleCredit() {
    guard owed > 0 else { return }
    let count = owed
    owed = 0
    stream.consume(count)
  }

  /// False where the answer is not gRPC's, or ends there.
  private func checkHeaders() -> Bool {
    guard !areHeadersChecked else { return true }
    areHeadersChecked = true
    let headers = stream.headers
    guard headers.status == 200 else {
      abort(GRPCStatus(fields: headers) ?? GRPCStatus(httpStatus: headers.status ?? 0))
      return false
    }
    let type = headers["content-type"] ?? ""
    guard type.hasPrefix("application/grpc") else {
      abort(GRPCStatus(.unknown, "the server answered with content of type \"\(type.prefix(80))\""))
      return false
    }
    return true
  }
}

extension GRPCCall: HTTP2StreamHandler {
  public func streamSupply(_ room: UnsafeMutableRawBufferPointer) -> HTTP2Supply {
    let count = min(room.count, outgoing.count - sent)
    guard count > 0 else { return isFinished ? .end : .nothingYet }
    outgoing.withUnsafeBytes { room.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[sent..<sent + count])) }
    sent += count
    if sent == outgoing.count {
      outgoing = []
      sent = 0
    }
    return .bytes(count)
  }

  public func streamReceived(_ chunk: UnsafeRawBufferPointer) {
    guard checkHeaders() else { return }
    do throws(GRPCStatus) {
      inbox.append(contentsOf: try deframer.receive(chunk))
    } catch {
      abort(error)
      return
    }
    owed += chunk.count
    // A message that is not complete is asked for by whoever waits for it.
    if inbox.isEmpty { settleCredit() }
  }

  public func streamReceivedTrailers(_ trailers: HTTP2Headers) { self.trailers = trailers }

  public func streamReceivedEnd() {
    guard checkHeaders() else { return }
    guard let status = GRPCStatus(fields: trailers ?? stream.headers) else {
      abort(GRPCStatus(.unknown, "the server ended the stream without a status"))
      return
    }
    if status.status == .ok, deframer.isIncomplete {
      abort(GRPCStatus(.internalError, "the server ended the stream in the middle of a message"))
      return
    }
    let isHalfOpen = !isFinished
    finish(status)
    // The server wants no more of us.
    if isHalfOpen { stream.reset(.noError) }
  }

  public func streamRoundEnded() {
    if !inbox.isEmpty { wakeReceiver() }
  }

  public func streamClosed(_ end: HTTP2StreamEnd) {
    finish(GRPCStatus(end: end))
  }
}
