import COpenSSL

extension TLSError {
  /// Why `SSL_do_handshake`, `SSL_read` or `SSL_write` failed for good on this thread.
  ///
  /// `result` is what the call returned. Call it right after the call, on the same thread, and only where
  /// `SSL_get_error` says neither `WANT_READ` nor `WANT_WRITE`. The thread's error queue is empty afterwards. The
  /// first thing known wins: our own verification of the peer, then libssl's reason.
  public static func handshake(_ ssl: OpaquePointer, result: CInt) -> TLSError {
    let kind = SSL_get_error(ssl, result)
    let error = OpenSSLErrors.take()
    if let failure = PeerVerification.of(ssl)?.failure { return failure }
    switch kind {
    case SSL_ERROR_ZERO_RETURN: return .closed(properly: true)
    case SSL_ERROR_SYSCALL where error == 0: return .closed(properly: false)
    default: return from(error: error)
    }
  }

  /// Translates an error of libssl.
  static func from(error: CUnsignedLong) -> TLSError {
    let reason = ERR_GET_REASON(error)
    let words = OpenSSLErrors.reason(error)
    guard ERR_GET_LIB(error) == ERR_LIB_SSL else { return .protocolViolation(reason: words) }
    // libssl reports a received alert as an offset plus its number.
    if let alert = UInt8(exactly: reason - SSL_AD_REASON_OFFSET) {
      return .alertReceived(TLSAlert(number: alert))
    }
    switch reason {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING: return .closed(properly: false)
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return .peerNoCertificate
    case SSL_R_NO_APPLICATION_PROTOCOL: return .noCommonProtocol
    case SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST, SSL_R_WRONG_VERSION_NUMBER, SSL_R_UNKNOWN_PROTOCOL,
      SSL_R_BAD_RECORD_TYPE:
      return .notTLS(reason: words)
    case SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_VERSION_TOO_LOW, SSL_R_VERSION_TOO_HIGH,
      SSL_R_WRONG_SSL_VERSION:
      return .version(reason: words)
    default: return .protocolViolation(reason: words)
    }
  }
}
