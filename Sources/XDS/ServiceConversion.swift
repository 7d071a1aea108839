import IstioAPI
import Mesh
import Vocabulary

extension Service.Record {
  /// The service that a resource describes (xds.md §5.1). Throws ``ResourceRejection``.
  init(_ message: Istio_Workload_Service) throws(ResourceRejection) {
    guard let key = NamespacedHostname("\(message.namespace)/\(message.hostname)") else {
      throw .field("hostname", "namespace and hostname must both be there, without a slash")
    }
    self.init(key: key)
    name = message.name
    for entry in message.addresses { try append(entry) }
    ports = try FieldReaders.ports(message.ports, "ports")
    subjectAltNames = message.subjectAltNames
    if message.hasWaypoint { waypoint = try FieldReaders.gateway(message.waypoint, "waypoint") }
    for entry in message.weightedWaypoints {
      let gateway = try FieldReaders.gateway(entry.destination, "weighted_waypoints")
      weightedWaypoints.append(WeightedWaypoint(gateway, weight: entry.weight))
    }
    if message.hasLoadBalancing { loadBalancing = try Self.loadBalancing(message.loadBalancing) }
    ipFamilies = try FieldReaders.known(message.ipFamilies, "ip_families") {
      switch $0 {
      case .automatic: Service.IPFamilies.automatic
      case .ipv4Only: .v4Only
      case .ipv6Only: .v6Only
      case .dual: .dual
      case .UNRECOGNIZED: nil
      }
    }
    isCanonical = message.canonical
    visibility = message.visibility == .namespace ? .namespace : .everywhere
  }

  /// An address, or a range where the length is given and less than the family's.
  private mutating func append(_ entry: Istio_Workload_NetworkAddress) throws(ResourceRejection) {
    let ip = try FieldReaders.address(Array(entry.address), "addresses")
    guard entry.hasLength else {
      addresses.append(NetworkAddress(network: entry.network, ip: ip))
      return
    }
    guard let prefix = Int(exactly: entry.length).flatMap({ IPPrefix(ip, length: $0) }) else {
      throw .field("addresses", "/\(entry.length) is too long for \(ip)")
    }
    if prefix == IPPrefix(host: ip) {
      addresses.append(NetworkAddress(network: entry.network, ip: ip))
    } else {
      prefixes.append(NetworkPrefix(network: entry.network, prefix: prefix))
    }
  }

  private static func loadBalancing(_ message: Istio_Workload_LoadBalancing) throws(ResourceRejection)
    -> LoadBalancing
  {
    var preferences: [LoadBalancing.Scope] = []
    for scope in message.routingPreference {
      preferences.append(
        try FieldReaders.known(scope, "routing_preference") {
          switch $0 {
          case .region: LoadBalancing.Scope.region
          case .zone: .zone
          case .subzone: .subzone
          case .node: .node
          case .cluster: .cluster
          case .network: .network
          case .unspecifiedScope, .UNRECOGNIZED: nil
          }
        })
    }
    let mode = try FieldReaders.known(message.mode, "mode") {
      switch $0 {
      case .unspecifiedMode: LoadBalancing.Mode.standard
      case .strict: .strict
      case .failover: .failover
      case .passthrough: .passthrough
      case .UNRECOGNIZED: nil
      }
    }
    let healthPolicy = try FieldReaders.known(message.healthPolicy, "health_policy") {
      switch $0 {
      case .onlyHealthy: LoadBalancing.HealthPolicy.onlyHealthy
      case .allowAll: .allowAll
      case .UNRECOGNIZED: nil
      }
    }
    return LoadBalancing(preferences: preferences, mode: mode, healthPolicy: healthPolicy)
  }
}
