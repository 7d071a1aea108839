import HashTreeCollections
import Vocabulary

/// Everything known about the mesh at one moment.
///
/// A snapshot is an immutable value made of persistent maps: a new one shares all that did not change with the old one,
/// and threads read theirs without a lock.
public struct MeshSnapshot: Sendable {
  public let settings: MeshSettings

  /// By uid.
  var workloads: TreeDictionary<String, Workload> = [:]
  /// Candidates of one address, best first.
  var workloadsByAddress: TreeDictionary<NetworkAddress, ShortList<Workload>> = [:]
  var workloadsByHostname: TreeDictionary<NamespacedHostname, ShortList<Workload>> = [:]
  /// Workloads of this node, best first.
  var localWorkloads: TreeDictionary<LocalName, ShortList<Workload>> = [:]
  /// How many local workloads have an identity.
  var localIdentities: TreeDictionary<SPIFFEIdentity, Int> = [:]

  var services: TreeDictionary<NamespacedHostname, Service> = [:]
  /// By folded host name, ordered by key.
  var servicesByHostname: TreeDictionary<String, ShortList<Service>> = [:]
  /// Ordered by key.
  var servicesByAddress: TreeDictionary<NetworkAddress, ShortList<Service>> = [:]
  /// By network.
  var servicesByPrefix: TreeDictionary<String, PrefixTable> = [:]
  /// All endpoints by service and uid, healthy or not, and whether the service itself is known yet or not: what may
  /// be chosen is decided when choosing, so that no order of updates can lose an endpoint.
  var endpoints: TreeDictionary<NamespacedHostname, ServiceEndpoints> = [:]

  var policies = PolicyStore()
  /// What the control plane has answered about, where the mesh is learnt on demand.
  var answeredKeys: TreeSet<MeshKey> = []

  /// How a pod is known to the agent of its node.
  struct LocalName: Hashable, Sendable {
    var namespace: String
    var name: String
    var serviceAccount: String
  }

  /// An empty mesh.
  public init(settings: MeshSettings = MeshSettings()) {
    self.settings = settings
  }
}

extension MeshSnapshot {
  public var workloadCount: Int { workloads.count }
  public var serviceCount: Int { services.count }
  public var policyCount: Int { policies.count }

  /// All workloads, in no order.
  public var allWorkloads: some Collection<Workload> { workloads.values }
  /// All services, in no order.
  public var allServices: some Collection<Service> { services.values }
  /// All policies, in no order.
  public var allPolicies: some Collection<AuthorizationPolicy> { policies.all }

  public func workload(uid: String) -> Workload? { workloads[uid] }

  /// The workload at an address: of several, a pod with a tunnel, then a pod, then one with a tunnel, and the latest
  /// to arrive among equals (services.md §1.1). Host-network workloads are not found this way.
  public func workload(at address: NetworkAddress) -> Workload? { workloadsByAddress[address]?.first }

  /// All workloads at an address, best first.
  func workloads(at address: NetworkAddress) -> [Workload] { workloadsByAddress[address].map(Array.init) ?? [] }

  /// The pod of this node with exactly this name, namespace and service account (datapath.md §3).
  public func localWorkload(namespace: String, name: String, serviceAccount: String) -> Workload? {
    localWorkloads[LocalName(namespace: namespace, name: name, serviceAccount: serviceAccount)]?.first
  }

  /// A workload that is to be resolved by DNS, by its host name.
  public func workload(hostname: NamespacedHostname) -> Workload? { workloadsByHostname[hostname]?.first }

  public func service(_ key: NamespacedHostname) -> Service? { services[key] }

  /// The best service with a host name in any case, as a client of `clientNamespace` sees it; nil asks on nobody's behalf.
  public func service(hostname: String, clientNamespace: String?) -> Service? {
    servicesByHostname[hostname.foldedHostname]?.best(for: clientNamespace)
  }

  /// All services with a host name in any case, at most one for each namespace, ordered by key.
  public func services(hostname: String) -> [Service] {
    servicesByHostname[hostname.foldedHostname].map(Array.init) ?? []
  }

  /// The best service with a virtual address, exact addresses before ranges (services.md §1.1).
  public func service(at address: NetworkAddress, clientNamespace: String?) -> Service? {
    if let exact = servicesByAddress[address]?.best(for: clientNamespace) { return exact }
    return servicesByPrefix[address.network]?.best(for: address.ip, clientNamespace: clientNamespace)
  }

  /// The endpoints of a service that its health policy allows.
  public func endpoints(of service: Service) -> [Endpoint] {
    var allowed: [Endpoint] = []
    endpoints[service.key]?.forEach { if $0.isAllowed(by: service) { allowed.append($0) } }
    return allowed
  }

  /// Some `count` endpoints of a service, drawn at random, that its health policy allows; nil where there are not many more,
  /// so that one may as well look at all of them. It takes as long as `count`, however many there are.
  public func sampleEndpoints(
    of service: Service, _ count: Int, using random: inout some RandomNumberGenerator
  ) -> [Endpoint]? {
    guard let all = endpoints[service.key], all.count / 8 > count else { return nil }
    // Twice as many as are wanted, because some are not healthy.
    return all.sample(2 * count, using: &random).filter { $0.isAllowed(by: service) }
  }

  public func policy(key: String) -> AuthorizationPolicy? { policies[key] }

  /// The service an inbound connection is counted for: the one the client named, else the first whose target port is
  /// the one connected to (services.md §11).
  public func attributedService(of local: Workload, forwardedHost: String?, port: UInt16) -> Service? {
    let known = local.services.keys.sorted().compactMap { services[$0] }
    if let forwardedHost, let named = known.first(where: { $0.hostname.foldedHostname == forwardedHost.foldedHostname })
    {
      return named
    }
    return known.first { service in
      let own = local.services[service.key] ?? [:]
      return own.values.contains(port) || service.ports.values.contains(port)
    }
  }
}
