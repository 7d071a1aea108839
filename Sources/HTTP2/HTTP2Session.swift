import CNghttp2
import Vocabulary

/// What a session tells its connection.
protocol HTTP2SessionDelegate: AnyObject {
  /// A request's fields are complete.
  func session(received request: HTTP2Stream)
  /// The peer's SETTINGS are here.
  func sessionReceivedSettings()
  /// A PING of ours was answered.
  func sessionReceivedPong()
  /// The peer wants no new streams.
  func sessionReceivedGoAway()
  /// There is something to send.
  func sessionNeedsFlush()
  /// The last stream is gone.
  func sessionBecameIdle()
}

/// HTTP/2 over memory: plaintext bytes in, streams out, and back. nghttp2 does the protocol; this gives it buffers.
final class HTTP2Session {
  enum Role { case client, server }

  let role: Role
  let settings: HTTP2Settings
  weak var delegate: (any HTTP2SessionDelegate)?
  private(set) var streams: [Int32: HTTP2Stream] = [:]
  /// What the library last found wrong with the peer's frames.
  var complaint: String?

  private var session: OpaquePointer
  private var touched: [HTTP2Stream] = []
  /// Received bytes that no application has consumed yet, over all streams.
  private var held = 0
  /// Bytes consumed that the peer has no connection-level credit back for.
  private var owedCredit = 0

  // The frame being produced; see `produce(into:)`.
  private var staging = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  private var staged = 0
  private var paused = false
  private var carry = UnsafeRawBufferPointer(start: nil, count: 0)

  /// While less than this is held, credit for the connection returns on receipt: a few streams whose applications do
  /// not read must not stop the others. Above, it returns as they drain, so that memory stays bounded.
  private static let freelyHeld = 48 << 20
  /// Bytes in front of a DATA payload.
  static let frameHeader = 9
  /// Less room than this is not worth a frame: the staging buffer is sent first.
  private static let leastPayload = 4096

  init(role: Role, settings: HTTP2Settings) throws(HTTP2Error) {
    self.role = role
    self.settings = settings
    var callbacks: OpaquePointer?
    var options: OpaquePointer?
    guard nghttp2_session_callbacks_new(&callbacks) == 0, nghttp2_option_new(&options) == 0 else {
      throw .session("out of memory")
    }
    defer {
      nghttp2_session_callbacks_del(callbacks)
      nghttp2_option_del(options)
    }
    SessionCallbacks.install(callbacks)
    nghttp2_option_set_no_auto_window_update(options, 1)
    // nghttp2 keeps closed streams for a priority tree that nothing here uses.
    nghttp2_option_set_no_closed_streams(options, 1)
    var made: OpaquePointer?
    let status =
      role == .client
      ? nghttp2_session_client_new2(&made, callbacks, nil, options)
      : nghttp2_session_server_new2(&made, callbacks, nil, options)
    guard status == 0, let made else { throw .library(Int(status)) }
    session = made
    nghttp2_session_set_user_data(session, Unmanaged.passUnretained(self).toOpaque())
    try submitSettings()
  }

  deinit {
    nghttp2_session_del(session)
  }

  private func submitSettings() throws(HTTP2Error) {
    var entries = [
      nghttp2_settings_entry(
        settings_id: CInt(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue), value: UInt32(settings.streamWindow)),
      nghttp2_settings_entry(
        settings_id: CInt(NGHTTP2_SETTINGS_MAX_FRAME_SIZE.rawValue), value: settings.maxFrameSize),
      nghttp2_settings_entry(
        settings_id: CInt(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE.rawValue), value: settings.maxHeaderListSize),
    ]
    switch role {
    case .server:
      entries.append(
        nghttp2_settings_entry(
          settings_id: CInt(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue), value: settings.maxConcurrentStreams))
    case .client:
      entries.append(
        nghttp2_settings_entry(settings_id: CInt(NGHTTP2_SETTINGS_ENABLE_PUSH.rawValue), value: 0))
    }
    var status = nghttp2_submit_settings(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), entries, entries.count)
    if status == 0 {
      status = nghttp2_session_set_local_window_size(
        session, UInt8(NGHTTP2_FLAG_NONE.rawValue), 0, settings.connectionWindow)
    }
    guard status == 0 else { throw .library(Int(status)) }
  }

  // MARK: Bytes

  /// Takes plaintext that came in. Handlers are called before this returns. Throws when the session cannot go on.
  func receive(_ bytes: UnsafeRawBufferPointer) throws(HTTP2Error) {
    guard !bytes.isEmpty else { return }
    let taken = nghttp2_session_mem_recv(session, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count)
    for stream in touched {
      stream.touched = false
      stream.handler?.streamRoundEnded()
    }
    touched.removeAll(keepingCapacity: true)
    if taken < 0 { throw .library(taken) }
  }

  /// Puts frames to send into `room` and returns how many bytes they take; 0 when there is nothing to send.
  ///
  /// A DATA payload is read from its source straight behind its frame header, so that it is contiguous with it and
  /// copied nowhere. Throws when the session cannot go on.
  func produce(into room: UnsafeMutableRawBufferPointer) throws(HTTP2Error) -> Int {
    staging = room
    staged = 0
    paused = false
    defer { staging = UnsafeMutableRawBufferPointer(start: nil, count: 0) }
    repeat {
      if !carry.isEmpty { stageCarry() }
      if !carry.isEmpty || paused { break }
      var pointer: UnsafePointer<UInt8>?
      let count = nghttp2_session_mem_send(session, &pointer)
      if count < 0 { throw .library(count) }
      if count == 0 { break }
      carry = UnsafeRawBufferPointer(start: pointer, count: count)
    } while true
    return staged
  }

  /// The last call of ``produce(into:)`` ended because the room did.
  var hasMoreToSend: Bool { paused || !carry.isEmpty }

  private func stageCarry() {
    let count = min(carry.count, staging.count - staged)
    UnsafeMutableRawBufferPointer(rebasing: staging[staged..<staged + count])
      .copyMemory(from: UnsafeRawBufferPointer(rebasing: carry[..<count]))
    staged += count
    carry = UnsafeRawBufferPointer(rebasing: carry[count...])
  }

  /// True while the session has a reason to stay open.
  var isAlive: Bool {
    nghttp2_session_want_read(session) != 0 || nghttp2_session_want_write(session) != 0 || !carry.isEmpty
  }

  /// Frames that wait to be sent.
  var queuedFrames: Int { nghttp2_session_get_outbound_queue_size(session) }

  /// Streams the peer lets us have open at once. Before its SETTINGS are here nghttp2 assumes 100.
  var peerStreamLimit: Int {
    Int(nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS))
  }

  // MARK: Streams

  /// Opens a stream. Bytes are asked of its handler once it has one. Throws ``HTTP2Error/unavailable``.
  func submitRequest(_ headers: HTTP2Headers) throws(HTTP2Error) -> HTTP2Stream {
    let stream = HTTP2Stream(session: self)
    var provider = nghttp2_data_provider()
    provider.read_callback = SessionCallbacks.supply
    let id = withNameValues(headers) { nghttp2_submit_request(session, nil, $0, $1, &provider, nil) }
    guard id > 0 else { throw .unavailable }
    stream.id = id
    streams[id] = stream
    delegate?.sessionNeedsFlush()
    return stream
  }

  func submitResponse(_ stream: HTTP2Stream, _ headers: HTTP2Headers, endStream: Bool) {
    var provider = nghttp2_data_provider()
    provider.read_callback = SessionCallbacks.supply
    let status = withNameValues(headers) { fields, count in
      endStream
        ? nghttp2_submit_response(session, stream.id, fields, count, nil)
        : nghttp2_submit_response(session, stream.id, fields, count, &provider)
    }
    if status != 0 { submitReset(stream, .internalError) }
    delegate?.sessionNeedsFlush()
  }

  func submitReset(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {
    // Fails only without memory; the stream is then closed with the connection.
    _ = nghttp2_submit_rst_stream(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, code.rawValue)
    delegate?.sessionNeedsFlush()
  }

  func resume(_ stream: HTTP2Stream) {
    // An error means that the stream was not deferred: it will be asked anyway.
    if nghttp2_session_resume_data(session, stream.id) == 0 { delegate?.sessionNeedsFlush() }
  }

  func consume(_ stream: HTTP2Stream, _ count: Int) {
    _ = nghttp2_session_consume_stream(session, stream.id, count)
    release(count)
    delegate?.sessionNeedsFlush()
  }

  /// So many received bytes are held no longer.
  func release(_ count: Int) {
    held -= count
    guard owedCredit > 0, held < Self.freelyHeld else { return }
    let credit = min(owedCredit, Self.freelyHeld - held)
    owedCredit -= credit
    _ = nghttp2_session_consume_connection(session, credit)
    delegate?.sessionNeedsFlush()
  }

  private func withNameValues<Result>(
    _ headers: HTTP2Headers, _ body: (UnsafePointer<nghttp2_nv>?, Int) -> Result
  ) -> Result {
    var text: [UInt8] = []
    for field in headers.fields {
      text.append(contentsOf: field.name.utf8)
      text.append(contentsOf: field.value.utf8)
    }
    return text.withUnsafeMutableBufferPointer { bytes in
      var next = bytes.baseAddress
      let fields = headers.fields.map { field in
        let (name, value) = (field.name.utf8.count, field.value.utf8.count)
        defer { next = next.map { $0 + name + value } }
        return nghttp2_nv(
          name: next, value: next.map { $0 + name }, namelen: name, valuelen: value,
          flags: UInt8(NGHTTP2_NV_FLAG_NONE.rawValue))
      }
      return fields.withUnsafeBufferPointer { body($0.baseAddress, $0.count) }
    }
  }

  // MARK: The connection

  func submitPing() {
    _ = nghttp2_submit_ping(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), nil)
    delegate?.sessionNeedsFlush()
  }

  /// Says that a GOAWAY will follow: the peer opens no new streams, and those on their way are still served.
  func submitShutdownNotice() {
    _ = nghttp2_submit_shutdown_notice(session)
    delegate?.sessionNeedsFlush()
  }

  /// The last word: what was received up to now is served, nothing later is.
  func submitGoAway(_ code: HTTP2ErrorCode) {
    let last = nghttp2_session_get_last_proc_stream_id(session)
    _ = nghttp2_submit_goaway(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), last, code.rawValue, nil, 0)
    delegate?.sessionNeedsFlush()
  }

  /// Closes every stream because the connection is gone.
  func closeAll(_ error: HTTP2ConnectionError) {
    let all = streams.values
    streams = [:]
    for stream in all { stream.close(.connectionLost(error)) }
  }

  // MARK: Called by nghttp2

  func beginHeaders(_ id: Int32) {
    guard role == .server, streams[id] == nil else { return }
    let stream = HTTP2Stream(session: self)
    stream.id = id
    streams[id] = stream
  }

  /// False when the stream's fields are too many.
  func header(_ id: Int32, _ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>) -> Bool {
    guard let stream = streams[id] else { return true }
    // 32 bytes for each field, as SETTINGS_MAX_HEADER_LIST_SIZE counts them (RFC 9113 §6.5.2).
    stream.headerBytes += name.count + value.count + 32
    guard stream.headerBytes <= Int(settings.maxHeaderListSize) else { return false }
    let field = (String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self))
    if stream.headersComplete {
      stream.trailers = stream.trailers ?? HTTP2Headers()
      stream.trailers?.append(field.0, field.1)
    } else {
      stream.headers.append(field.0, field.1)
    }
    return true
  }

  func headersEnded(_ id: Int32) {
    guard let stream = streams[id] else { return }
    if stream.headersComplete {
      touch(stream)
      return stream.receivedTrailers()
    }
    // An informational answer is followed by the real one.
    if role == .client, let status = stream.headers.status, status < 200 {
      stream.headers = HTTP2Headers()
      return
    }
    stream.receivedHeaders()
    if role == .server { delegate?.session(received: stream) }
  }

  func data(_ id: Int32, _ chunk: UnsafeRawBufferPointer) {
    held += chunk.count
    if held <= Self.freelyHeld {
      _ = nghttp2_session_consume_connection(session, chunk.count)
    } else {
      owedCredit += chunk.count
    }
    guard let stream = streams[id] else {
      release(chunk.count)
      return
    }
    touch(stream)
    stream.received(chunk)
  }

  func streamEnded(_ id: Int32) {
    guard let stream = streams[id] else { return }
    touch(stream)
    stream.receivedEndOfStream()
  }

  /// A frame has been serialised.
  func sent(_ frame: nghttp2_frame) {
    switch UInt32(frame.hd.type) {
    case NGHTTP2_HEADERS.rawValue: sentHeaders(frame.hd)
    case NGHTTP2_GOAWAY.rawValue: sentGoAway(frame.goaway)
    default: break
    }
  }

  /// What the library tells a peer that breaks the protocol it tells nobody else.
  private func sentGoAway(_ frame: nghttp2_goaway) {
    guard frame.error_code != HTTP2ErrorCode.noError.rawValue, complaint == nil else { return }
    let text = String(
      decoding: UnsafeRawBufferPointer(start: frame.opaque_data, count: frame.opaque_data_len), as: UTF8.self)
    complaint = text.isEmpty ? "\(HTTP2ErrorCode(rawValue: frame.error_code))" : text
  }

  private func sentHeaders(_ frame: nghttp2_frame_hd) {
    // An answer that ends the stream before the request has ended: the rest of the request would only be held, and the
    // stream with it (RFC 9113 §8.1).
    guard role == .server, frame.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0,
      let stream = streams[frame.stream_id],
      !stream.receivedEnd
    else { return }
    submitReset(stream, .noError)
  }

  func streamClosed(_ id: Int32, _ code: HTTP2ErrorCode) {
    guard let stream = streams.removeValue(forKey: id) else { return }
    stream.close(code == .noError && stream.receivedEnd ? .complete : .reset(code))
    if streams.isEmpty { delegate?.sessionBecameIdle() }
  }

  private func touch(_ stream: HTTP2Stream) {
    guard !stream.touched else { return }
    stream.touched = true
    touched.append(stream)
  }

  /// Reads a stream's bytes behind the place of their frame header. The result is what nghttp2 expects.
  func supply(_ id: Int32, _ length: Int, _ flags: UnsafeMutablePointer<UInt32>) -> Int {
    guard let stream = streams[id] else { return Int(NGHTTP2_ERR_DEFERRED.rawValue) }
    let room = staging.count - staged - Self.frameHeader
    guard room >= min(length, Self.leastPayload) else {
      paused = true
      return Int(NGHTTP2_ERR_PAUSE.rawValue)
    }
    let start = staged + Self.frameHeader
    let payload = UnsafeMutableRawBufferPointer(rebasing: staging[start..<start + min(length, room)])
    switch stream.supply(payload) {
    case .bytes(let count):
      flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
      return count
    case .end:
      flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue | NGHTTP2_DATA_FLAG_EOF.rawValue
      return 0
    case .nothingYet:
      return Int(NGHTTP2_ERR_DEFERRED.rawValue)
    case .failed(let code):
      stream.handler = nil
      _ = nghttp2_submit_rst_stream(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), id, code.rawValue)
      return Int(NGHTTP2_ERR_DEFERRED.rawValue)
    }
  }

  /// The frame header of what `supply` has just read.
  func stageFrame(_ header: UnsafePointer<UInt8>, _ length: Int) {
    UnsafeMutableRawBufferPointer(rebasing: staging[staged..<staged + Self.frameHeader])
      .copyMemory(from: UnsafeRawBufferPointer(start: header, count: Self.frameHeader))
    staged += Self.frameHeader + length
  }
}
