import Vocabulary

/// Chooses one endpoint of a service for a source (services.md §3 and §4).
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
    balancing = service.record.loadBalancing
  }

  func pick(from endpoints: ServiceEndpoints, using random: inout some RandomNumberGenerator) -> Winner? {
    guard let tiers = endpoints.tiers(for: source) else { return pickRanked(endpoints, using: &random) }
    for tier in tiers {
      let pools = usable(of: tier)
      if !pools.isEmpty { return pick(among: pools, using: &random) }
    }
    return nil
  }

  /// Endpoints of equal rank and the port they are reached at.
  private typealias Candidates = (pool: EndpointPool, port: UInt16)

  private func pick(among candidates: [Candidates], using random: inout some RandomNumberGenerator) -> Winner? {
    let total = candidates.reduce(UInt64(0)) { $0 + $1.pool.weight }
    guard total > 0 else { return nil }
    var ticket = UInt64.random(in: 0..<total, using: &random)
    for (pool, port) in candidates {
      if ticket < pool.weight {
        guard let endpoint = pool.endpoint(at: ticket) else { return nil }
        let count = candidates.reduce(0) { $0 + $1.pool.count }
        return Winner(workload: endpoint.workload, port: port, candidates: count)
      }
      ticket -= pool.weight
    }
    return nil
  }

  private func usable(of tier: EndpointTier) -> [Candidates] {
    var usable: [Candidates] = []
    tier.forEachPool { traits, pool in
      guard isUsable(traits), let port = targetPort(traits) else { return }
      var pool = pool
      // After a failure only; a copy of the way to each, and the snapshot keeps its own.
      for uid in excluded { pool.remove(uid: uid) }
      if !pool.isEmpty { usable.append((pool, port)) }
    }
    return usable
  }

  /// Chooses among the best of a few, each looked at.
  private func pickRanked(_ endpoints: ServiceEndpoints, using random: inout some RandomNumberGenerator) -> Winner? {
    guard let balancing else { return nil }
    var best = -1
    var near: [(workload: Workload, port: UInt16)] = []
    var total: UInt64 = 0
    endpoints.all.forEachPool { traits, pool in
      guard isUsable(traits), let port = targetPort(traits) else { return }
      pool.forEach { endpoint in
        let workload = endpoint.workload
        let (rank, matchesAll) = balancing.rank(of: workload, for: source)
        guard rank >= best, balancing.mode != .strict || matchesAll, !excluded.contains(workload.record.uid) else {
          return
        }
        if rank > best {
          (best, total) = (rank, 0)
          near.removeAll(keepingCapacity: true)
        }
        near.append((workload, port))
        total += UInt64(workload.record.capacity)
      }
    }
    guard total > 0 else { return nil }
    var ticket = UInt64.random(in: 0..<total, using: &random)
    for (workload, port) in near {
      let capacity = UInt64(workload.record.capacity)
      if ticket < capacity { return Winner(workload: workload, port: port, candidates: near.count) }
      ticket -= capacity
    }
    return nil
  }

  private func isUsable(_ traits: EndpointTraits) -> Bool {
    guard traits.hasCapacity, acceptsUnhealthy || traits.isHealthy else { return false }
    return switch traits.reach {
    case .everywhere: true
    case .fromOutside(let network): network != source.record.network
    case .nowhere: false
    }
  }

  private func targetPort(_ traits: EndpointTraits) -> UInt16? {
    let own = traits.ports[port].flatMap { $0 == 0 ? nil : $0 }
    guard let target else {
      guard purpose == .waypoint, traits.tunnel != .none else { return nil }
      return own ?? (traits.tunnel == .withPort ? port : nil)
    }
    if let own { return own }
    if target != 0 { return target }
    // A named port the endpoint does not carry.
    return purpose == .waypoint && traits.tunnel == .withPort ? port : nil
  }
}
