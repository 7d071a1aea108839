import Vocabulary

/// Why bytes from a client are no request to be served.
enum HTTPRequestError: CodedError, Equatable {
  case malformed(String)
  case headTooLarge
  case bodyTooLarge
  case unsupportedVersion
  case unsupportedTransferCoding
  case timeout

  /// The status of the answer.
  var status: Int {
    switch self {
    case .malformed: 400
    case .headTooLarge: 431
    case .bodyTooLarge: 413
    case .unsupportedVersion: 505
    case .unsupportedTransferCoding: 501
    case .timeout: 408
    }
  }

  var code: String {
    switch self {
    case .malformed: "HTTP_MALFORMED"
    case .headTooLarge: "HTTP_HEAD_TOO_LARGE"
    case .bodyTooLarge: "HTTP_BODY_TOO_LARGE"
    case .unsupportedVersion: "HTTP_UNSUPPORTED_VERSION"
    case .unsupportedTransferCoding: "HTTP_UNSUPPORTED_TRANSFER_CODING"
    case .timeout: "HTTP_REQUEST_TIMEOUT"
    }
  }

  var summary: String {
    switch self {
    case .malformed(let what): "the request is malformed: \(what)"
    case .headTooLarge: "the request's header is too large"
    case .bodyTooLarge: "the request's body is too large"
    case .unsupportedVersion: "only HTTP/1.0 and HTTP/1.1 are spoken here"
    case .unsupportedTransferCoding: "the request's transfer coding is not supported"
    case .timeout: "the request did not arrive in time"
    }
  }
}
