import Glibc

/// What a SOCKS5 client is told about its request (RFC 1928 §6).
enum SocksReply: UInt8 {
  case succeeded = 0
  case generalFailure = 1
  case notAllowed = 2
  case networkUnreachable = 3
  case hostUnreachable = 4
  case connectionRefused = 5
  case commandNotSupported = 7

  /// The whole message. The bound address is never told: it is another host's, or a tunnel's.
  var bytes: [UInt8] { [5, rawValue, 0, 1, 0, 0, 0, 0, 0, 0] }

  /// The closest there is to why a connection failed.
  init(_ error: ProxyError) {
    switch error {
    case .recursiveCall, .route(.selfCall), .policyRejected, .policyChanged, .status(401): self = .notAllowed
    case .route, .unresolved: self = .hostUnreachable
    case .socks(let error): self = error.reply ?? .generalFailure
    case .upstreamUnreachable(let error), .tunnelUnreachable(let error): self = Self(error)
    case .connectTimeout: self = .hostUnreachable
    default: self = .generalFailure
    }
  }

  private init(_ error: DialError) {
    switch error {
    case .timeout: self = .hostUnreachable
    case .refused(let error):
      switch error.number {
      case ECONNREFUSED: self = .connectionRefused
      case ENETUNREACH: self = .networkUnreachable
      case EHOSTUNREACH, ETIMEDOUT: self = .hostUnreachable
      default: self = .generalFailure
      }
    case .namespace, .sourceNotPreserved: self = .generalFailure
    }
  }
}
