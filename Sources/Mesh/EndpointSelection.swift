import Vocabulary

/// Chooses one endpoint of a service for a source (services.md §3 and §4).
///
/// The endpoints are walked twice and copied never: once for the best rank and its total weight, once for the winner.
struct EndpointSelection {
  /// What the endpoint is wanted for.
  enum Purpose {
    /// As a destination or a network gateway: the service must have the port.
    case destination
    /// As a waypoint: an endpoint with an application tunnel serves ports the service does not list.
    case waypoint
  }

  struct Winner {
    var workload: Workload
    /// The target port.
    var port: UInt16
    /// How many could have been chosen.
    var candidates: Int
  }

  private let port: UInt16
  private let purpose: Purpose
  private let source: Workload
  private let excluded: Set<String>
  // What every endpoint is asked about the service, looked up once.
  private let target: UInt16?
  private let acceptsUnhealthy: Bool
  private let balancing: LoadBalancing?

  init(service: Service, port: UInt16, purpose: Purpose, source: Workload, excluded: Set<String>) {
    self.port = port
    self.purpose = purpose
    self.source = source
    self.excluded = excluded
    target = service.record.ports[port]
    acceptsUnhealthy = service.record.loadBalancing?.healthPolicy == .allowAll
    balancing = service.record.loadBalancing?.mode == .standard ? nil : service.record.loadBalancing
  }

  func pick(
    from endpoints: some Sequence<Endpoint>, using random: inout some RandomNumberGenerator
  ) -> Winner? {
    var best = 0
    var total: UInt64 = 0
    var candidates = 0
    for endpoint in endpoints {
      guard let (weight, rank, _) = consider(endpoint) else { continue }
      if rank > best || candidates == 0 {
        (best, total, candidates) = (rank, 0, 0)
      }
      if rank == best {
        total += weight
        candidates += 1
      }
    }
    guard total > 0 else { return nil }
    var ticket = UInt64.random(in: 0..<total, using: &random)
    for endpoint in endpoints {
      guard let (weight, rank, port) = consider(endpoint), rank == best else { continue }
      if ticket < weight { return Winner(workload: endpoint.workload, port: port, candidates: candidates) }
      ticket -= weight
    }
    return nil
  }

  /// Nil when the endpoint cannot be chosen.
  private func consider(_ endpoint: Endpoint) -> (weight: UInt64, rank: Int, port: UInt16)? {
    let workload = endpoint.workload
    guard workload.record.capacity > 0, acceptsUnhealthy || workload.record.health == .healthy, isReachable(workload),
      let port = targetPort(of: endpoint), excluded.isEmpty || !excluded.contains(workload.record.uid)
    else { return nil }
    guard let balancing else { return (UInt64(workload.record.capacity), 0, port) }
    let (rank, matchesAll) = balancing.rank(of: workload, for: source)
    guard balancing.mode != .strict || matchesAll else { return nil }
    return (UInt64(workload.record.capacity), rank, port)
  }

  private func isReachable(_ workload: Workload) -> Bool {
    !workload.record.addresses.isEmpty || !workload.record.hostname.isEmpty
      || (workload.record.network != source.record.network && workload.record.networkGateway != nil)
  }

  private func targetPort(of endpoint: Endpoint) -> UInt16? {
    let own = endpoint.ports.isEmpty ? nil : endpoint.ports[port].flatMap { $0 == 0 ? nil : $0 }
    let tunnel = endpoint.workload.record.applicationTunnel
    guard let target else {
      guard purpose == .waypoint, let tunnel else { return nil }
      return own ?? (tunnel.port == nil ? nil : port)
    }
    if let own { return own }
    if target != 0 { return target }
    // A named port the endpoint does not carry.
    return purpose == .waypoint && tunnel?.port != nil ? port : nil
  }
}
