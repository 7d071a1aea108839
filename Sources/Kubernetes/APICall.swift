import HTTP2
import Linux

/// One request under way: its answer, whole or line by line. Belongs to its channel's loop; one reader at a time.
final class APICall {
  let request: APIRequest
  private let server: String
  private let stream: HTTP2Stream
  private var timer: LoopTimer?

  private var outgoing: ArraySlice<UInt8>
  private var received: [UInt8] = []
  /// Where the first line that was not taken begins.
  private var start = 0
  /// Up to where no end of that line was found.
  private var searched = 0
  /// Bytes whose credit the server gets back when they have been read.
  private var owed = 0
  private var isComplete = false
  private var failure: KubernetesError?
  private var waiter: (() -> Void)?

  init(_ request: APIRequest, server: String, stream: HTTP2Stream, deadline: ContinuousClock.Instant, loop: EventLoop) {
    self.request = request
    self.server = server
    self.stream = stream
    outgoing = request.body[...]
    timer = loop.schedule(at: deadline) { [weak self] in
      guard let self else { return }
      abort(.timedOut(request: "\(request)"))
    }
    stream.handler = self
  }

  /// The status of the answer, when its first bytes are here. Throws ``KubernetesError``.
  func status() async throws(KubernetesError) -> Int {
    let end = await stream.waitForResponse()
    if let failure { throw failure }
    if end != nil, stream.headers.status == nil { throw broken(end) }
    guard let status = stream.headers.status else { throw .unreachable(server: server, reason: "no status came") }
    return status
  }

  /// A field of the answer.
  func header(_ name: String) -> String? { stream.headers[name] }

  /// The whole body. Throws ``KubernetesError``, also for one of more than `limit` bytes.
  func body(limit: Int) async throws(KubernetesError) -> [UInt8] {
    while true {
      settle()
      if received.count > limit {
        let error = KubernetesError.tooLarge(subject: "the answer to \(request)", limit: limit)
        abort(error)
        throw error
      }
      if let failure { throw failure }
      if isComplete { return received }
      await more()
    }
  }

  /// The next line, without its end; nil after the last. Throws ``KubernetesError``, also for one of more than `limit`
  /// bytes.
  func line(limit: Int) async throws(KubernetesError) -> [UInt8]? {
    while true {
      if let end = received[searched...].firstIndex(of: 0x0a) {
        let line = Array(received[start..<end])
        start = end + 1
        searched = start
        return line
      }
      received.removeFirst(start)
      start = 0
      searched = received.count
      if received.count > limit {
        let error = KubernetesError.tooLarge(subject: "a line of the answer to \(request)", limit: limit)
        abort(error)
        throw error
      }
      // More is asked for only when all complete lines were taken: a slow reader holds one window and no more.
      settle()
      if let failure { throw failure }
      if isComplete {
        let rest = received
        received = []
        searched = 0
        return rest.isEmpty ? nil : rest
      }
      await more()
    }
  }

  /// Ends the request, at the server too.
  func cancel() { abort(.unreachable(server: server, reason: "the request was cancelled")) }

  private func more() async {
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
      waiter = { continuation.resume() }
    }
  }

  private func wake() {
    let waiter = waiter
    self.waiter = nil
    waiter?()
  }

  private func settle() {
    guard owed > 0 else { return }
    let count = owed
    owed = 0
    stream.consume(count)
  }

  private func abort(_ error: KubernetesError) {
    guard failure == nil, !isComplete else { return }
    settle()
    finish(error)
    stream.reset(.cancel)
  }

  private func finish(_ error: KubernetesError?) {
    guard failure == nil, !isComplete else { return }
    if let error { failure = error } else { isComplete = true }
    timer?.cancel()
    timer = nil
    outgoing = []
    wake()
  }

  private func broken(_ end: HTTP2StreamEnd?) -> KubernetesError {
    switch end {
    case .connectionLost(let error): .unreachable(server: server, reason: error.summary)
    case .reset(let code): .unreachable(server: server, reason: "it reset \(request): \(code)")
    case .complete, nil: .unreachable(server: server, reason: "it ended \(request) without an answer")
    }
  }
}

extension APICall: HTTP2StreamHandler {
  func streamSupply(_ room: UnsafeMutableRawBufferPointer) -> HTTP2Supply {
    guard !outgoing.isEmpty else { return .end }
    let part = outgoing.prefix(room.count)
    part.withUnsafeBytes { room.copyMemory(from: $0) }
    outgoing = outgoing.dropFirst(part.count)
    return .bytes(part.count)
  }

  func streamReceived(_ chunk: UnsafeRawBufferPointer) {
    received.append(contentsOf: chunk)
    owed += chunk.count
  }

  func streamReceivedEnd() { finish(nil) }

  func streamRoundEnded() { wake() }

  func streamClosed(_ end: HTTP2StreamEnd) {
    if stream.receivedEnd { finish(nil) } else { finish(broken(end)) }
  }
}
