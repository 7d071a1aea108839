import HTTP2
import Identity
import Linux
import Mesh
import TLS
import Telemetry
import Vocabulary
import ZDS

/// Why a connection was denied or failed. Summaries are the texts that Istio's dashboards and people search for
/// (observability.md §2.2); codes are stable and tell apart what those texts lump together.
enum ProxyError: CodedError, Equatable {
  /// The client connected to a port of the proxy itself.
  case recursiveCall
  /// The mesh state has no record of the pod the connection belongs to.
  case unknownLocalWorkload(WorkloadInfo)
  case route(RouteRefusal)
  case inbound(InboundRefusal)
  case policyRejected(PolicyRejection)
  /// It was allowed when it was opened, and is not any more.
  case policyChanged(PolicyRejection)
  /// The peer's certificate was revoked while the connection was open.
  case peerRevoked
  /// The pod was removed, or this process is leaving.
  case drained
  /// No certificate for the pod.
  case identity(IdentityError)
  /// The application in the pod could not be reached.
  case applicationUnreachable(DialError)
  /// The next hop could not be reached over plain TCP.
  case upstreamUnreachable(DialError)
  /// The next hop's HBONE port could not be reached.
  case tunnelUnreachable(DialError)
  /// TLS or HTTP/2 with the next hop failed.
  case tunnelFailed(HTTP2ConnectionError)
  /// TLS or HTTP/2 with the far end of a tunnel inside another failed.
  case innerTunnelFailed(HTTP2ConnectionError)
  /// No new stream could be opened on a tunnel.
  case streamRefused
  /// The next hop answered CONNECT with another status than 200.
  case status(Int)
  /// The next hop did not answer CONNECT in time.
  case connectTimeout(seconds: Int64)
  /// The stream ended before CONNECT was answered.
  case connectAborted(String)
  case tls(TLSError)
  /// From client to upstream.
  case send(String)
  /// From upstream to client.
  case receive(String)
  case system(SystemError)
  /// More handshakes are under way in this pod than it is allowed.
  case tooManyHandshakes
  /// A client of the SOCKS5 port made no request that can be served.
  case socks(SocksError)
  /// The next hop's host name has no address that can be used.
  case unresolved(RouteRefusal, ResolutionError)

  var code: String {
    switch self {
    case .recursiveCall: "RECURSIVE_CALL"
    case .unknownLocalWorkload: "UNKNOWN_LOCAL_WORKLOAD"
    case .route(let error): error.code
    case .inbound(let error): error.code
    case .policyRejected(let error): error.code
    case .policyChanged: "POLICY_CHANGED"
    case .peerRevoked: HTTP2ConnectionError.peerRevoked.code
    case .drained: "DRAINED"
    case .identity(let error): error.code
    case .applicationUnreachable: "APPLICATION_UNREACHABLE"
    case .upstreamUnreachable: "UPSTREAM_UNREACHABLE"
    case .tunnelUnreachable(.timeout): "HBONE_CONNECT_TIMEOUT"
    case .tunnelUnreachable: "HBONE_UNREACHABLE"
    case .tunnelFailed(let error): error.code
    case .innerTunnelFailed(let error): "INNER_\(error.code)"
    case .streamRefused: "HBONE_STREAM_REFUSED"
    case .status(401): "PEER_DENIED"
    case .status: "PEER_REFUSED"
    case .connectTimeout: "CONNECT_TIMEOUT"
    case .connectAborted: "CONNECT_ABORTED"
    case .tls(let error): error.code
    case .send: "SEND_FAILED"
    case .receive: "RECEIVE_FAILED"
    case .system(let error): error.code
    case .tooManyHandshakes: "TOO_MANY_HANDSHAKES"
    case .socks(let error): error.code
    case .unresolved(let refusal, _): refusal.code
    }
  }

  var summary: String {
    switch self {
    case .recursiveCall: "attempted recursive call to ourselves"
    case .unknownLocalWorkload(let info):
      "failed to fetch information about local workload: \(info.serviceAccount).\(info.namespace) (\(info.name))"
    case .route(let error): error.summary
    case .inbound(let error): error.summary
    case .policyRejected(let error): "connection closed due to policy rejection: \(error.summary)"
    case .policyChanged(let error): "connection closed due to policy change: \(error.summary)"
    case .peerRevoked: HTTP2ConnectionError.peerRevoked.summary
    case .drained: "connection closed due to connection drain"
    case .identity(let error): "identity error: \(error.summary)"
    case .applicationUnreachable(let error): "connection failed: \(error.summary)"
    case .upstreamUnreachable(let error): "io error: \(error.summary)"
    case .tunnelUnreachable(.timeout(let address)):
      "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: \(address)"
    case .tunnelUnreachable(let error): "io error: \(error.summary)"
    case .tunnelFailed(.http2(let error)): "http2 handshake failed: \(error.summary)"
    case .tunnelFailed(let error): error.summary
    case .innerTunnelFailed(let error): "beyond the network gateway: \(error.summary)"
    case .streamRefused: "h2 failed: the next hop takes no new streams"
    case .status(let status): "http status: \(status)\(Self.reason(status))"
    case .connectTimeout(let seconds): "the next hop did not answer CONNECT within \(seconds)s"
    case .connectAborted(let reason): "h2 failed: \(reason)"
    case .tls(let error): "tls error: \(error.summary)"
    case .send(let text): "send: \(text)"
    case .receive(let text): "receive: \(text)"
    case .system(let error): "io error: \(error.summary)"
    case .tooManyHandshakes: "too many TLS handshakes are under way in this pod"
    case .socks(let error): error.summary
    case .unresolved(let refusal, let error): "\(refusal.summary): \(error.summary)"
    }
  }

  var remedy: String? {
    switch self {
    case .route(let error): error.remedy
    case .inbound(let error): error.remedy
    case .socks(let error): error.remedy
    case .unresolved(let refusal, _): refusal.remedy
    case .policyRejected(let error), .policyChanged(let error): error.remedy
    case .identity(let error): error.remedy
    case .peerRevoked: HTTP2ConnectionError.peerRevoked.remedy
    case .tunnelFailed(let error): error.remedy
    case .innerTunnelFailed(.tls): "check that the service's subject names are those of its workloads on that network"
    case .innerTunnelFailed(let error): error.remedy
    case .tls(let error): error.remedy
    case .unknownLocalWorkload: "check that the mesh state has this pod, on this node, with this service account"
    case .status(401): "the destination's policy refuses this identity: read its access log for the rule"
    case .applicationUnreachable: "check that the application listens on this port and address"
    default: nil
    }
  }

  /// The form that access logs carry.
  var failure: ConnectionFailure { ConnectionFailure(self) }

  private static func reason(_ status: Int) -> String {
    switch status {
    case 400: " Bad Request"
    case 401: " Unauthorized"
    case 403: " Forbidden"
    case 404: " Not Found"
    case 502: " Bad Gateway"
    case 503: " Service Unavailable"
    default: ""
    }
  }
}
