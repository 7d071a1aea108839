import CNghttp2

/// The session that nghttp2 calls for.
private func session(_ userData: UnsafeMutableRawPointer?) -> HTTP2Session? {
  userData.map { Unmanaged<HTTP2Session>.fromOpaque($0).takeUnretainedValue() }
}

/// nghttp2's C callbacks: each finds its session and calls it.
enum SessionCallbacks {
  /// Largest DATA payload made, whatever the peer takes: larger ones only make other streams wait.
  static let largestPayload = 128 << 10

  static let supply: nghttp2_data_source_read_callback = { _, id, _, length, flags, _, userData in
    guard let session = session(userData), let flags else { return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue) }
    return session.supply(id, length, flags)
  }

  static func install(_ callbacks: OpaquePointer?) {
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) { _, frame, userData in
      guard let session = session(userData), let frame else { return 0 }
      session.beginHeaders(frame.pointee.hd.stream_id)
      return 0
    }
    nghttp2_session_callbacks_set_on_header_callback(callbacks) {
      _, frame, name, nameLength, value, valueLength, _, userData in
      guard let session = session(userData), let frame else { return 0 }
      let fits = session.header(
        frame.pointee.hd.stream_id, UnsafeBufferPointer(start: name, count: nameLength),
        UnsafeBufferPointer(start: value, count: valueLength))
      return fits ? 0 : CInt(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
    }
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, userData in
      guard let session = session(userData), let frame else { return 0 }
      let header = frame.pointee.hd
      let ended = header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
      switch UInt32(header.type) {
      case NGHTTP2_HEADERS.rawValue:
        session.headersEnded(header.stream_id)
        if ended { session.streamEnded(header.stream_id) }
      case NGHTTP2_DATA.rawValue:
        if ended { session.streamEnded(header.stream_id) }
      case NGHTTP2_SETTINGS.rawValue:
        if header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) == 0 { session.delegate?.sessionReceivedSettings() }
      case NGHTTP2_PING.rawValue:
        if header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0 { session.delegate?.sessionReceivedPong() }
      case NGHTTP2_GOAWAY.rawValue:
        session.delegate?.sessionReceivedGoAway()
      default: break
      }
      return 0
    }
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) { _, _, id, bytes, count, userData in
      session(userData)?.data(id, UnsafeRawBufferPointer(start: bytes, count: count))
      return 0
    }
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { _, frame, userData in
      guard let session = session(userData), let frame else { return 0 }
      session.sent(frame.pointee)
      return 0
    }
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, id, code, userData in
      session(userData)?.streamClosed(id, HTTP2ErrorCode(rawValue: code))
      return 0
    }
    nghttp2_session_callbacks_set_error_callback2(callbacks) { _, _, text, count, userData in
      session(userData)?.complaint = String(decoding: UnsafeRawBufferPointer(start: text, count: count), as: UTF8.self)
      return 0
    }
    nghttp2_session_callbacks_set_send_data_callback(callbacks) { _, _, header, length, _, userData in
      guard let session = session(userData), let header else { return CInt(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue) }
      session.stageFrame(header, length)
      return 0
    }
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks) {
      _, _, _, _, _, maxFrameSize, _ in
      min(SessionCallbacks.largestPayload, Int(maxFrameSize))
    }
  }
}
