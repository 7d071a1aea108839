import Vocabulary

/// What to do with one CONNECT request that arrived for a local workload (hbone.md §7, services.md §9).
public enum InboundDecision: Equatable, Sendable {
  case accepted(InboundRoute)
  case refused(InboundRefusal)
}

public struct InboundRoute: Equatable, Sendable {
  /// Where the application is reached.
  public let target: SocketAddress
  /// Destination that policies see: the pod's address and the resolved port, even when loopback is dialled.
  public let policyDestination: SocketAddress
  public let authority: TunnelAuthority
  /// Set when bytes go to a proxy inside the workload rather than to the application.
  public let applicationTunnel: Workload.ApplicationTunnel?
  /// Destination of the PROXY v2 header (hbone.md §13); nil when no header is written.
  public let proxyHeaderDestination: SocketAddress?
  /// The connection to the application is bound to loopback rather than to the client's address.
  public let isFromLoopback: Bool
  /// The service that a host name authority named.
  public let service: Service?
}

/// Why a CONNECT request is refused before policy is asked. Summaries are the texts access logs carry
/// (observability.md §2.2).
public enum InboundRefusal: CodedError, Hashable {
  case methodNotConnect(String)
  /// The authority as received, made printable.
  case badAuthority(String)
  case addressMismatch(connection: IPAddress, authority: IPAddress)
  case unknownHostname(String)
  case unresolvedPort(hostname: String, port: UInt16)
  case noServiceAddress(hostname: String)
  case selfCall(UInt16)
  case unknownLocalWorkload(name: String, namespace: String, serviceAccount: String)

  /// The HTTP status of the response.
  public var status: Int {
    switch self {
    case .methodNotConnect, .badAuthority, .addressMismatch: 400
    case .unknownHostname, .unresolvedPort, .noServiceAddress, .selfCall, .unknownLocalWorkload: 503
    }
  }

  public var code: String {
    switch self {
    case .methodNotConnect: "INBOUND_METHOD_NOT_CONNECT"
    case .badAuthority: "INBOUND_BAD_AUTHORITY"
    case .addressMismatch: "INBOUND_IP_MISMATCH"
    case .unknownHostname: "INBOUND_UNKNOWN_HOSTNAME"
    case .unresolvedPort: "INBOUND_UNRESOLVED_PORT"
    case .noServiceAddress: "INBOUND_NO_SERVICE_ADDRESS"
    case .selfCall: "INBOUND_SELF_CALL"
    case .unknownLocalWorkload: "INBOUND_UNKNOWN_LOCAL_WORKLOAD"
    }
  }

  public var summary: String {
    switch self {
    case .methodNotConnect(let method): "expected method CONNECT, got \(method)"
    case .badAuthority(let authority): "no valid authority pseudo header: \(authority)"
    case .addressMismatch(let connection, let authority): "ip mismatch: \(connection) != \(authority)"
    case .unknownHostname(let hostname): "no service or workload for hostname: \(hostname)"
    case .unresolvedPort(let hostname, let port):
      "requested service \(hostname):\(port) found, but cannot resolve port"
    case .noServiceAddress(let hostname): "requested service \(hostname) found, but has no IP addresses"
    case .selfCall: "attempted recursive call to ourselves"
    case .unknownLocalWorkload(let name, let namespace, let serviceAccount):
      "failed to fetch information about local workload: \(serviceAccount).\(namespace) (\(name))"
    }
  }

  public var remedy: String? {
    switch self {
    case .methodNotConnect, .badAuthority: "the peer does not speak HBONE"
    case .addressMismatch: "check that the target's waypoint is this workload, or that the peer's data is not stale"
    case .unknownHostname: "check that the service is visible to this workload's namespace"
    case .unresolvedPort: "check that the service lists the port and that this workload serves it"
    case .noServiceAddress: "a PROXY application tunnel needs a service with an address"
    case .selfCall(let port): "port \(port) belongs to the proxy"
    case .unknownLocalWorkload: "check that the control plane knows the pod and its node name"
    }
  }

  /// ``badAuthority(_:)`` with what came from outside cut short and unprintable bytes replaced.
  static func badAuthority(bytes: some Collection<UInt8>) -> InboundRefusal {
    let printable = bytes.prefix(128).map { (0x20...0x7e).contains($0) ? $0 : UInt8(ascii: "?") }
    return .badAuthority(String(decoding: printable, as: UTF8.self))
  }
}
