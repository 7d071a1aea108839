import CNghttp2
import Vocabulary

/// Error codes of RST_STREAM and GOAWAY (RFC 9113 §7).
public struct HTTP2ErrorCode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let noError = HTTP2ErrorCode(rawValue: 0x0)
  public static let protocolError = HTTP2ErrorCode(rawValue: 0x1)
  public static let internalError = HTTP2ErrorCode(rawValue: 0x2)
  public static let flowControlError = HTTP2ErrorCode(rawValue: 0x3)
  public static let streamClosed = HTTP2ErrorCode(rawValue: 0x5)
  public static let refusedStream = HTTP2ErrorCode(rawValue: 0x7)
  public static let cancel = HTTP2ErrorCode(rawValue: 0x8)
  /// The connection behind a CONNECT was reset or abnormally closed (RFC 9113 §8.5).
  public static let connectError = HTTP2ErrorCode(rawValue: 0xa)
  public static let enhanceYourCalm = HTTP2ErrorCode(rawValue: 0xb)

  /// The name of the registry, or the number.
  public var description: String {
    nghttp2_http2_strerror(rawValue).map { String(cString: $0) } ?? "0x\(String(rawValue, radix: 16))"
  }
}

/// Why an HTTP/2 session could not go on.
public enum HTTP2Error: CodedError, Equatable {
  /// The peer broke the protocol, or the library ran out of memory; the library's words.
  case session(String)
  /// No more streams can be opened here: the peer asked for that, or its limit is reached.
  case unavailable

  public var code: String {
    switch self {
    case .session: "HTTP2_PROTOCOL"
    case .unavailable: "HTTP2_UNAVAILABLE"
    }
  }

  public var summary: String {
    switch self {
    case .session(let text): "h2 failed: \(text)"
    case .unavailable: "h2 failed: the connection takes no new streams"
    }
  }

  static func library(_ code: Int) -> HTTP2Error {
    .session(nghttp2_strerror(CInt(truncatingIfNeeded: code)).map { String(cString: $0) } ?? "error \(code)")
  }
}
