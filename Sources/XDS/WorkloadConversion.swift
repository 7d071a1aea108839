import IstioAPI
import Mesh
import Vocabulary

extension Workload.Record {
  /// The workload that a resource describes (xds.md §5.1), with what it has in common with others kept once. Throws
  /// ``ResourceRejection``.
  ///
  /// `uid` is the message's own, as the string that others know the workload by: one of them is enough.
  init(
    _ message: Istio_Workload_Workload, uid: String, _ sharing: inout RecordSharing
  ) throws(ResourceRejection) {
    guard !uid.isEmpty else { throw .field("uid", "it is empty") }
    let template = try Workload.Template(message)
    let locality = Workload.Locality(
      region: message.locality.region, zone: message.locality.zone, subzone: message.locality.subzone)
    self.init(
      uid: uid, template: sharing.templates.shared(Shared(template)),
      placement: sharing.placements.shared(Shared(.init(node: message.node, locality: locality))))
    name = message.name
    for bytes in message.addresses { addresses.append(try FieldReaders.address(Array(bytes), "addresses")) }
    health = try FieldReaders.known(message.status, "status") {
      switch $0 {
      case .healthy: Workload.Health.healthy
      case .unhealthy: .unhealthy
      case .UNRECOGNIZED: nil
      }
    }
  }
}

/// Parts of workloads that are kept once for all that have them.
struct RecordSharing: Sendable {
  var templates = SharingPool<Workload.Template>()
  var placements = SharingPool<Workload.Placement>()
}

extension Workload.Template {
  fileprivate init(_ message: Istio_Workload_Workload) throws(ResourceRejection) {
    self.init()
    namespace = message.namespace
    network = message.network
    tunnelProtocol = try FieldReaders.known(message.tunnelProtocol, "tunnel_protocol") {
      switch $0 {
      case .none: Workload.TunnelProtocol.none
      case .hbone: .hbone
      case .legacyIstioMtls, .UNRECOGNIZED: nil
      }
    }
    trustDomain = message.trustDomain
    serviceAccount = message.serviceAccount
    clusterID = message.clusterID
    applyIdentityDefaults()
    if message.hasWaypoint { waypoint = try FieldReaders.gateway(message.waypoint, "waypoint") }
    if message.hasNetworkGateway {
      networkGateway = try FieldReaders.gateway(message.networkGateway, "network_gateway")
    }
    canonicalName = message.canonicalName
    canonicalRevision = message.canonicalRevision
    kind =
      switch message.workloadType {
      // Telemetry only, so that a new kind does no harm.
      case .deployment, .UNRECOGNIZED: .deployment
      case .cronjob: .cronjob
      case .pod: .pod
      case .job: .job
      }
    workloadName = message.workloadName
    hasNativeTunnel = message.nativeTunnel
    authorizationPolicies = message.authorizationPolicies
    hostname = message.hostname
    for (key, list) in message.services {
      guard let service = NamespacedHostname(key) else {
        throw .field("services", "the key \"\(key.prefix(256))\" is not namespace/hostname")
      }
      services[service] = try FieldReaders.ports(list.ports, "services")
    }
    if message.hasApplicationTunnel { applicationTunnel = try Self.tunnel(message.applicationTunnel) }
    networkMode = try FieldReaders.known(message.networkMode, "network_mode") {
      switch $0 {
      case .standard: Workload.NetworkMode.standard
      case .hostNetwork: .hostNetwork
      case .UNRECOGNIZED: nil
      }
    }
    capacity = message.hasCapacity ? message.capacity.value : 1
  }

  private static func tunnel(_ message: Istio_Workload_ApplicationTunnel) throws(ResourceRejection)
    -> Workload.ApplicationTunnel
  {
    let wire = try FieldReaders.known(message.protocol, "application_tunnel.protocol") {
      switch $0 {
      case .none: Workload.ApplicationTunnel.Wire.none
      case .proxy: .proxy
      case .UNRECOGNIZED: nil
      }
    }
    let port = try FieldReaders.port(message.port, "application_tunnel.port")
    return Workload.ApplicationTunnel(wire, port: port == 0 ? nil : port)
  }
}
