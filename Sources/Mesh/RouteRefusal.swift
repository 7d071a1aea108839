import Vocabulary

/// Why an outbound connection goes nowhere. Summaries are the texts access logs carry (observability.md §2.2).
public enum RouteRefusal: CodedError, Hashable {
  case selfCall(SocketAddress)
  case unknownWaypoint(GatewayReference)
  case unknownNetworkGateway(GatewayReference)
  case noHealthyUpstream(SocketAddress)
  /// By uid: no address that can be used, or on another network without a gateway.
  case noValidDestination(workload: String)
  /// By uid: its host name has no addresses.
  case unresolvedHostname(workload: String, hostname: String)
  /// Another network can only be reached through a service.
  case noServiceForTarget(SocketAddress)
  /// The far end of a tunnel to another network is known only by the service's names, and there are none.
  case noExpectedIdentities(service: NamespacedHostname?)

  public var code: String {
    switch self {
    case .selfCall: "ROUTE_SELF_CALL"
    case .unknownWaypoint: "ROUTE_UNKNOWN_WAYPOINT"
    case .unknownNetworkGateway: "ROUTE_UNKNOWN_NETWORK_GATEWAY"
    case .noHealthyUpstream: "ROUTE_NO_HEALTHY_UPSTREAM"
    case .noValidDestination: "ROUTE_NO_VALID_DESTINATION"
    case .unresolvedHostname: "ROUTE_UNRESOLVED_HOSTNAME"
    case .noServiceForTarget: "ROUTE_NO_SERVICE"
    case .noExpectedIdentities: "ROUTE_NO_EXPECTED_IDENTITIES"
    }
  }

  public var summary: String {
    switch self {
    case .selfCall: "attempted recursive call to ourselves"
    case .unknownWaypoint(let reference): "unknown waypoint: \(reference)"
    case .unknownNetworkGateway(let reference): "unknown network gateway: \(reference)"
    case .noHealthyUpstream(let target): "no healthy upstream: \(target)"
    case .noValidDestination(let uid): "no valid routing destination for workload: \(uid)"
    case .unresolvedHostname(let uid, _): "no ip addresses were resolved for workload: \(uid)"
    case .noServiceForTarget(let target): "no service for target address: \(target)"
    case .noExpectedIdentities(let service):
      "no identities to expect behind the network gateway for service: \(service?.description ?? "none")"
    }
  }

  public var remedy: String? {
    switch self {
    case .selfCall: "the application connected to a port of the proxy itself"
    case .unknownWaypoint: "check that the waypoint runs and that its service has ready endpoints"
    case .unknownNetworkGateway: "check that the east-west gateway of that network is known here"
    case .noHealthyUpstream: "check that the service has ready endpoints and lists this port"
    case .noValidDestination: "check the workload's addresses, the service's IP families and its network gateway"
    case .unresolvedHostname(_, let hostname): "check that \(hostname) resolves on this node"
    case .noServiceForTarget: "address workloads of other networks by a service, not by their IP"
    case .noExpectedIdentities: "check subjectAltNames of the service"
    }
  }
}
