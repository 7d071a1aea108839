import COpenSSL

/// The calling thread's queue of OpenSSL errors.
enum OpenSSLErrors {
  /// The oldest error of the queue, which is the cause where later ones only report it, or 0. Empties the queue.
  static func take() -> CUnsignedLong {
    let first = ERR_get_error()
    ERR_clear_error()
    return first
  }

  /// Empties the queue, for steps made thousands of times a second: where it is empty, as nearly always, `ERR_clear_error`
  /// alone would wipe each of its places.
  static func clear() {
    if ERR_peek_error() != 0 { ERR_clear_error() }
  }

  /// The oldest error's reason in OpenSSL's words, with the library's name in front. Empties the queue.
  static func takeReason() -> String {
    reason(take())
  }

  /// What an error number says.
  static func reason(_ error: CUnsignedLong) -> String {
    guard error != 0 else { return "no reason given" }
    guard let text = ERR_reason_error_string(error) else { return "error \(String(error, radix: 16))" }
    return String(cString: text)
  }
}
