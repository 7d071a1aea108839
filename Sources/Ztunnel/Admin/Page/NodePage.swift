import HTTPServer

/// The page at `/`.
enum NodePage {
  /// The page with a nonce that only this answer has: the browser runs and applies nothing else, whatever a name from
  /// outside holds.
  static func answer() -> HTTPResponse {
    var random = SystemRandomNumberGenerator()
    let nonce = String(random.next(), radix: 36) + String(random.next(), radix: 36)
    let policy = [
      "default-src 'none'", "script-src 'nonce-\(nonce)'", "style-src 'nonce-\(nonce)'", "connect-src 'self'",
      "img-src data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    ].joined(separator: "; ")
    var bytes: [UInt8] = []
    let pieces = html.split(separator: placeholder, omittingEmptySubsequences: false)
    for (index, piece) in pieces.enumerated() {
      if index > 0 { bytes += nonce.utf8 }
      bytes += piece.utf8
    }
    return HTTPResponse(
      headers: [
        "content-type": "text/html; charset=utf-8", "content-security-policy": policy, "cache-control": "no-store",
        "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
      ], body: .bytes(bytes))
  }

  static let placeholder = "NONCE-OF-THIS-ANSWER"
}
