import HTTP2

/// How a connection ended, in the words of Istio's metrics (observability.md §2.2, §4.1).
enum ResponseFlag: String, CaseIterable {
  case none = "-"
  case denied = "DENY"
  case connect = "CONNECT"
  case tlsFailure = "TLS_FAILURE"
  case handshakeFailure = "H2_HANDSHAKE_FAILURE"
  case networkPolicy = "NETWORK_POLICY"
  case identityError = "IDENTITY_ERROR"
  case certificateRevoked = "CERT_REVOKED"

  /// A failed TLS handshake is one here, not a failure to connect (observability.md limit 4).
  init(_ error: ProxyError?) {
    switch error {
    case nil, .drained: self = .none
    case .policyRejected, .policyChanged: self = .denied
    case .tunnelUnreachable(.timeout): self = .networkPolicy
    case .tls, .tunnelFailed(.tls), .innerTunnelFailed(.tls): self = .tlsFailure
    case .tunnelFailed(.http2), .innerTunnelFailed(.http2): self = .handshakeFailure
    case .identity: self = .identityError
    default: self = .connect
    }
  }

  var index: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}
