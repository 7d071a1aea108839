import HTTP2

/// What HTTP/2 says, in gRPC's codes (gRPC over HTTP2 §Responses, §Errors).
extension GRPCStatus {
  /// The status in trailers, or in the headers of an answer that has nothing else. Nil where there is none.
  init?(fields: HTTP2Headers) {
    guard let text = fields["grpc-status"] else { return nil }
    let message = fields["grpc-message"].map(Self.percentDecoded) ?? ""
    // Also for codes that a later version of gRPC adds.
    let code = Int(text).flatMap(Code.init(rawValue:)) ?? .unknown
    self.init(code, message)
  }

  /// For an answer that is not gRPC's.
  init(httpStatus: Int) {
    let code: Code =
      switch httpStatus {
      case 400: .internalError
      case 401: .unauthenticated
      case 403: .permissionDenied
      case 404: .unimplemented
      case 429, 502, 503, 504: .unavailable
      default: .unknown
      }
    self.init(code, "the server answered with HTTP status \(httpStatus)")
  }

  /// For a stream that the server reset.
  init(reset code: HTTP2ErrorCode) {
    let status: Code =
      switch code {
      case .refusedStream: .unavailable
      case .cancel: .cancelled
      case .enhanceYourCalm: .resourceExhausted
      case .streamClosed: .unknown
      case HTTP2ErrorCode(rawValue: 0xc): .permissionDenied  // INADEQUATE_SECURITY
      default: .internalError
      }
    self.init(status, "the server reset the stream: \(code)")
  }

  /// For a stream that ended without a status of its own.
  init(end: HTTP2StreamEnd) {
    switch end {
    case .complete: self.init(.unknown, "the server ended the stream without a status")
    case .reset(let code): self.init(reset: code)
    case .connectionLost(let error): self.init(.unavailable, "the connection was lost: \(error.summary)")
    }
  }

  /// `%20` as a space and so on; what is not two hexadecimal digits stays as it is.
  static func percentDecoded(_ text: String) -> String {
    let bytes = Array(text.utf8)
    var decoded: [UInt8] = []
    decoded.reserveCapacity(bytes.count)
    var index = 0
    while index < bytes.count {
      if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count,
        let high = hexadecimal(bytes[index + 1]), let low = hexadecimal(bytes[index + 2])
      {
        decoded.append(high << 4 | low)
        index += 3
      } else {
        decoded.append(bytes[index])
        index += 1
      }
    }
    return String(decoding: decoded, as: UTF8.self)
  }

  private static func hexadecimal(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
