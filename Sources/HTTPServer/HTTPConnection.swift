import Glibc
import Linux

/// One client's connection: requests in, answers out, one after the other (RFC 9112 §9.3.2). Belongs to the loop.
final class HTTPConnection {
  private enum Phase {
    case awaitingRequest
    case busy
    case endless
  }

  /// Why no further request is served.
  private enum End: Error {
    /// The client, or the time it may take, is gone.
    case gone
    case refused(HTTPRequestError)
  }

  private let socket: SharedDescriptor
  private let peer: HTTPPeer
  private let core: ServerCore
  private var phase = Phase.awaitingRequest
  private var buffer: [UInt8] = []
  private(set) var lastUse = ContinuousClock.now
  private var isCut = false

  private static let readSize = 16 << 10
  /// Time, and bytes, spent on what a client still sends that has had its last answer: closing with unread bytes would
  /// be a reset, which can destroy the answer before it is read (RFC 9112 §9.6).
  private static let lingering = Duration.seconds(1)
  private static let mostLingeringBytes = 256 << 10

  init(_ socket: SharedDescriptor, _ peer: HTTPPeer, core: ServerCore) {
    self.socket = socket
    self.peer = peer
    self.core = core
  }

  /// Nothing is under way on it.
  var isIdle: Bool { phase == .awaitingRequest && buffer.isEmpty && !isCut }

  /// Ends it as soon as no request is under way.
  func stop() {
    if phase != .busy { cut() }
  }

  /// Ends it now.
  func cut() {
    isCut = true
    _ = shutdown(socket.raw, CInt(SHUT_RDWR))
  }

  /// Answers with 503 without reading anything, and closes.
  static func turnAway(_ socket: SharedDescriptor) {
    let answer = Array(
      "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 21\r\n\r\ntoo many connections\n".utf8)
    // A fresh socket's buffer takes that at once.
    _ = answer.withUnsafeBytes { Glibc.send(socket.raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
    _ = shutdown(socket.raw, CInt(SHUT_WR))
  }

  /// Serves requests until the connection ends.
  func run() async {
    var isFirst = true
    do throws(End) {
      while try await serveOne(isFirst: isFirst) { isFirst = false }
    } catch {
      if case .refused(let error) = error {
        core.counts.withLock { $0.refused += 1 }
        var response = HTTPResponse.text("\(error.summary)\n", status: error.status)
        response.headers.append("connection", "close")
        try? await send(head(response, length: .known) + body(response), until: .now + core.limits.writeTime)
      }
    }
    await linger()
  }

  // MARK: Requests

  /// False when the connection is not to go on.
  private func serveOne(isFirst: Bool) async throws(End) -> Bool {
    phase = .awaitingRequest
    if core.isStopping { return false }
    guard let head = try await readHead(isFirst: isFirst) else { return false }
    phase = .busy
    var request = HTTPRequest(
      method: head.method, path: head.path, query: PercentCoding.query(head.query), headers: head.headers, peer: peer)
    request.body = try await readBody(head)
    core.counts.withLock { $0.requests += 1 }
    let response = await core.handler(request)
    lastUse = .now
    let isLast = !head.keepsAlive || core.isStopping || isCut
    return try await answer(response, to: head, isLast: isLast)
  }

  private func readHead(isFirst: Bool) async throws(End) -> RequestHead? {
    var deadline = isFirst || !buffer.isEmpty ? ContinuousClock.now + core.limits.headTime : nil
    let idleDeadline = ContinuousClock.now + core.limits.idleTime
    var scanned = 0
    while true {
      // An empty line before a request is forgiven (RFC 9112 §2.2).
      while buffer.starts(with: [13, 10]) {
        buffer.removeFirst(2)
        scanned = 0
      }
      if let length = RequestHead.length(in: buffer, from: scanned) {
        guard length <= core.limits.headBytes else { throw .refused(.headTooLarge) }
        let head: RequestHead
        do throws(HTTPRequestError) { head = try RequestHead(buffer[..<length], limits: core.limits) } catch {
          throw .refused(error)
        }
        buffer.removeFirst(length)
        return head
      }
      guard buffer.count <= core.limits.headBytes else { throw .refused(.headTooLarge) }
      scanned = max(0, buffer.count - 3)
      let wasEmpty = buffer.isEmpty
      do throws(End) {
        guard try await fill(until: deadline ?? idleDeadline) else { return nil }
      } catch {
        // Nobody is told that a request which was never begun is late.
        if case .refused(.timeout) = error, wasEmpty { return nil }
        throw error
      }
      if deadline == nil { deadline = .now + core.limits.headTime }
    }
  }

  private func readBody(_ head: RequestHead) async throws(End) -> [UInt8] {
    let deadline = ContinuousClock.now + core.limits.bodyTime
    if case .fixed(let length) = head.length {
      guard length <= core.limits.bodyBytes else { throw .refused(.bodyTooLarge) }
      if length == 0 { return [] }
    }
    if head.expectsContinue, buffer.isEmpty {
      try await send(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8), until: deadline)
    }
    switch head.length {
    case .fixed(let length):
      while buffer.count < length {
        guard try await fill(until: deadline) else { throw .gone }
      }
      defer { buffer.removeFirst(length) }
      return Array(buffer[..<length])
    case .chunked:
      var body = ChunkedBody(limit: core.limits.bodyBytes)
      while true {
        do throws(HTTPRequestError) { if try body.receive(&buffer) { return body.bytes } } catch {
          throw .refused(error)
        }
        guard try await fill(until: deadline) else { throw .gone }
      }
    }
  }

  // MARK: Answers

  private enum BodyLength {
    case known
    case chunked
    /// Until the connection ends.
    case untilEnd
  }

  private func answer(_ response: HTTPResponse, to request: RequestHead, isLast: Bool) async throws(End) -> Bool {
    var response = response
    let (producer, length, isEnd): (HTTPResponse.Producer?, BodyLength, Bool)
    switch response.body {
    case .bytes: (producer, length, isEnd) = (nil, .known, isLast)
    case .stream(let made), .endless(let made):
      (producer, length, isEnd) = (made, request.speaksHTTP11 ? .chunked : .untilEnd, isLast || !request.speaksHTTP11)
    }
    if isEnd { response.headers.append("connection", "close") }
    var bytes = head(response, length: length)
    let hasBody = request.method != "HEAD"
    if hasBody { bytes += body(response) }
    try await send(bytes, until: .now + core.limits.writeTime)
    if let producer, hasBody {
      if case .endless = response.body {
        guard !core.isStopping else { throw .gone }
        phase = .endless
      }
      let writer = HTTPBodyWriter(isChunked: length == .chunked) { [self] bytes throws(HTTPStreamEnded) in
        do throws(End) { try await send(bytes, until: .now + core.limits.writeTime) } catch { throw HTTPStreamEnded() }
      }
      do throws(HTTPStreamEnded) {
        try await producer(writer)
        try await writer.finish()
      } catch { throw .gone }
    }
    return !isEnd && !core.isStopping
  }

  private func body(_ response: HTTPResponse) -> [UInt8] {
    if case .bytes(let bytes) = response.body { bytes } else { [] }
  }

  private func head(_ response: HTTPResponse, length: BodyLength) -> [UInt8] {
    var text = "HTTP/1.1 \(response.status) \(HTTPResponse.reason(response.status))\r\n"
    for field in response.headers.fields {
      // A line end in a value would be a second field, or a second response.
      text += "\(field.name): \(String(decoding: field.value.utf8.filter { $0 >= 0x20 }, as: UTF8.self))\r\n"
    }
    switch length {
    case .known where response.status != 204 && response.status >= 200:
      text += "content-length: \(body(response).count)\r\n"
    case .chunked: text += "transfer-encoding: chunked\r\n"
    case .known, .untilEnd: break
    }
    return Array("\(text)\r\n".utf8)
  }

  // MARK: Bytes

  /// Reads what is there, or waits for it. False at the end of what the client sends.
  private func fill(until deadline: ContinuousClock.Instant) async throws(End) -> Bool {
    let raw = socket.raw
    while true {
      // Also while bytes come, so that a client which sends them one by one has no more time than any other.
      guard ContinuousClock.now < deadline else { throw .refused(.timeout) }
      let start = buffer.count
      buffer.append(contentsOf: repeatElement(0, count: Self.readSize))
      let count = buffer.withUnsafeMutableBytes { recv(raw, $0.baseAddress.map { $0 + start }, Self.readSize, 0) }
      let number = errno
      buffer.removeLast(Self.readSize - max(0, count))
      if count > 0 { return true }
      if count == 0 { return false }
      if number == EINTR { continue }
      guard number == EAGAIN else { throw .gone }
      do throws(WaitError) { try await core.loop.readable(raw, until: deadline) } catch {
        throw error == .deadlineExceeded ? .refused(.timeout) : .gone
      }
    }
  }

  /// Sends all of `bytes`. `deadline` is for the first of them; each later one has the same time again.
  private func send(_ bytes: [UInt8], until deadline: ContinuousClock.Instant) async throws(End) {
    let raw = socket.raw
    var offset = 0
    var deadline = deadline
    while offset < bytes.count {
      if isCut { throw .gone }
      let count = bytes.withUnsafeBytes {
        Glibc.send(raw, $0.baseAddress.map { $0 + offset }, bytes.count - offset, CInt(MSG_NOSIGNAL))
      }
      if count > 0 {
        offset += count
        deadline = .now + core.limits.writeTime
        continue
      }
      if errno == EINTR { continue }
      guard errno == EAGAIN else { throw .gone }
      do throws(WaitError) { try await core.loop.writable(raw, until: deadline) } catch { throw .gone }
    }
  }

  private func linger() async {
    let raw = socket.raw
    guard shutdown(raw, CInt(SHUT_WR)) == 0, !isCut else { return }
    let deadline = ContinuousClock.now + Self.lingering
    var left = Self.mostLingeringBytes
    buffer = []
    while left > 0, let isMore = try? await fill(until: deadline), isMore {
      left -= buffer.count
      buffer.removeAll(keepingCapacity: true)
    }
  }
}
