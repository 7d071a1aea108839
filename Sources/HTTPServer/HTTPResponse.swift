/// What goes back for a request.
public struct HTTPResponse: Sendable {
  /// Writes a body piece by piece. It runs on the server's loop; each write waits until the client has taken enough.
  public typealias Producer = @Sendable (HTTPBodyWriter) async throws(HTTPStreamEnded) -> Void

  public enum Body: Sendable {
    case bytes([UInt8])
    /// Made while it is sent.
    case stream(Producer)
    /// Made while it is sent, and never over by itself, such as server-sent events: ends with the server.
    case endless(Producer)
  }

  public var status: Int
  public var headers: HTTPHeaders
  public var body: Body

  public init(status: Int = 200, headers: HTTPHeaders = [:], body: Body = .bytes([])) {
    self.status = status
    self.headers = headers
    self.body = body
  }

  /// Plain text.
  public static func text(_ text: String, status: Int = 200) -> HTTPResponse {
    HTTPResponse(
      status: status, headers: ["content-type": "text/plain; charset=utf-8"], body: .bytes(Array(text.utf8)))
  }

  /// 405 with what is allowed (RFC 9110 §15.5.6).
  public static func methodNotAllowed(allow: String, _ text: String = "") -> HTTPResponse {
    var response = HTTPResponse.text(text, status: 405)
    response.headers.append("allow", allow)
    return response
  }

  static func reason(_ status: Int) -> String {
    switch status {
    case 200: "OK"
    case 204: "No Content"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 304: "Not Modified"
    case 400: "Bad Request"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 411: "Length Required"
    case 413: "Content Too Large"
    case 415: "Unsupported Media Type"
    case 422: "Unprocessable Content"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 503: "Service Unavailable"
    case 505: "HTTP Version Not Supported"
    default: status < 400 ? "OK" : "Error"
    }
  }
}

/// Nobody takes the rest of a streamed body: the client has gone or stalled, or the server stops.
public struct HTTPStreamEnded: Error {}
