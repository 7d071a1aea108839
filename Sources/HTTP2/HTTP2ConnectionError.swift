import Linux
import TLS
import Vocabulary

/// Why a connection is over.
public enum HTTP2ConnectionError: CodedError, Equatable {
  /// The TLS handshake or a record failed.
  case tls(TLSError)
  /// The TCP connection failed.
  case io(SystemError)
  /// The peer broke HTTP/2.
  case http2(HTTP2Error)
  /// A step took too long.
  case deadline(Step)
  /// The peer closed it.
  case closedByPeer
  /// The peer's certificate was revoked while the connection was open.
  case peerRevoked
  /// This side closed it, having nothing more to do on it.
  case closedLocally

  /// What has a deadline.
  public enum Step: String, Sendable {
    case tlsHandshake = "TLS handshake"
    case settings = "HTTP/2 settings"
    case ping = "HTTP/2 ping"
  }

  public var code: String {
    switch self {
    case .tls(let error): error.code
    case .io(let error): error.code
    case .http2(let error): error.code
    case .deadline(.tlsHandshake): "TLS_HANDSHAKE_TIMEOUT"
    case .deadline(.settings): "HTTP2_SETTINGS_TIMEOUT"
    case .deadline(.ping): "HTTP2_PING_TIMEOUT"
    case .closedByPeer: "HTTP2_CLOSED_BY_PEER"
    case .peerRevoked: "CERT_REVOKED"
    case .closedLocally: "HTTP2_CLOSED"
    }
  }

  public var summary: String {
    switch self {
    case .tls(let error): error.summary
    case .io(let error): "io error: \(error.summary)"
    case .http2(let error): error.summary
    case .deadline(let step): "\(step.rawValue) was not complete in time"
    case .closedByPeer: "the peer closed the connection"
    case .peerRevoked: "connection closed: peer certificate revoked by CRL"
    case .closedLocally: "the connection was closed"
    }
  }

  public var remedy: String? {
    switch self {
    case .tls(let error): error.remedy
    case .io(let error): error.remedy
    case .http2(let error): error.remedy
    case .deadline: "check that the peer speaks HBONE on this port and is not overloaded"
    case .peerRevoked: "the peer needs a new certificate; if it should have a good one, check the CRL"
    case .closedByPeer, .closedLocally: nil
    }
  }
}
