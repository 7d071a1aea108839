import Mesh
import Telemetry
import Vocabulary

/// What an outbound decision comes to when it can be carried out.
enum Upstream {
  case plain(SocketAddress, Workload?, Service?)
  case tunnel(TunnelRoute)
  case doubleTunnel(DoubleTunnelRoute)

  /// What the log says of a connection to here from `peer`, in the pod of `source`.
  func record(from source: Workload, _ peer: SocketAddress) -> AccessLogRecord {
    switch self {
    case .plain(let address, let workload, let service):
      AccessLogRecord(
        source: .init(peer, source, proven: nil), destination: .init(address, workload, proven: nil),
        service: service?.hostname, direction: .outbound)
    case .tunnel(let route):
      AccessLogRecord(
        source: .init(peer, source, proven: source.identity),
        destination: .init(route.nextHop, route.workload, proven: route.workload.identity),
        tunnelTarget: .init(route.authority),
        service: route.service?.hostname, direction: .outbound)
    // Who is beyond the gateway is known when it has answered.
    case .doubleTunnel(let route):
      AccessLogRecord(
        source: .init(peer, source, proven: source.identity),
        destination: .init(route.outer.nextHop, route.workload, proven: nil),
        tunnelTarget: .init(route.innerAuthority),
        service: route.service.hostname, direction: .outbound)
    }
  }

  /// The uids to avoid, one after the other until there is another way, when a different endpoint, waypoint or gateway
  /// may do better. Empty when the failure is nobody's whom the mesh chose.
  func endpoints(toBlameFor error: ProxyError) -> [String] {
    switch error {
    case .upstreamUnreachable, .tunnelUnreachable, .tunnelFailed, .innerTunnelFailed, .connectTimeout, .streamRefused,
      .status(503), .unresolved:
      break
    default: return []
    }
    switch self {
    case .plain(_, let workload, _): return workload.map { [$0.uid] } ?? []
    case .tunnel(let route): return [route.workload.uid]
    // Another gateway of that network first, then what is on this one or a third.
    case .doubleTunnel(let route): return [route.outer.workload.uid, route.workload.uid]
    }
  }
}
