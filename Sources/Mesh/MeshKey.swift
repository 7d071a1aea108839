import Vocabulary

/// A name under which the control plane is asked for a record (xds.md §3.5).
public enum MeshKey: Hashable, Sendable, CustomStringConvertible {
  /// Whatever has the address: a workload or a service.
  case address(NetworkAddress)
  case service(NamespacedHostname)
  case workload(uid: String)

  /// The key that `text` is the wire form of.
  public init(_ text: String) {
    if let address = NetworkAddress(text) {
      self = .address(NetworkAddress(network: address.network, ip: address.ip.canonical))
    } else if let name = NamespacedHostname(text) {
      self = .service(name)
    } else {
      self = .workload(uid: text)
    }
  }

  /// The wire form.
  public var description: String {
    switch self {
    case .address(let address): address.description
    case .service(let name): name.description
    case .workload(let uid): uid
    }
  }
}

extension GatewayReference {
  /// What the gateway's record is asked for by.
  var key: MeshKey {
    switch destination {
    case .hostname(let name): .service(name)
    case .address(let address): .address(address)
    }
  }
}

extension MeshSnapshot {
  /// False where the mesh is learnt on demand and nobody has asked for `key` yet. What is known to be there or known not to
  /// be there needs no asking.
  public func isSettled(_ key: MeshKey) -> Bool {
    !settings.isOnDemand || answeredKeys.contains(key) || finds(key)
  }

  /// True where there is a record under exactly `key`. A range that holds an address says nothing of who else has it.
  public func finds(_ key: MeshKey) -> Bool {
    switch key {
    case .address(let address): workloadsByAddress[address] != nil || servicesByAddress[address] != nil
    case .service(let name): services[name] != nil || workloadsByHostname[name] != nil
    case .workload(let uid): workloads[uid] != nil
    }
  }

  /// The control plane's names for what is found under `key`: uids and `namespace/hostname`.
  public func names(under key: MeshKey) -> [String] {
    switch key {
    case .address(let address):
      return workloads(at: address).map(\.record.uid)
        + (servicesByAddress[address] ?? ShortList()).map(\.record.key.description)
        + (servicesByPrefix[address.network]?.services(for: address.ip) ?? []).map(\.record.key.description)
    case .service(let name):
      if services[name] != nil { return [name.description] }
      return workload(hostname: name).map { [$0.record.uid] } ?? []
    case .workload(let uid): return workloads[uid] == nil ? [] : [uid]
    }
  }

  /// The names of all records that are needed where only `keys` are: what is found under them, the endpoints of services,
  /// and the workloads of this node.
  public func names(neededFor keys: some Sequence<MeshKey>) -> Set<String> {
    var needed: Set<String> = []
    for key in keys {
      for name in names(under: key) where needed.insert(name).inserted {
        guard let service = NamespacedHostname(name) else { continue }
        endpoints[service]?.forEach { needed.insert($0.workload.record.uid) }
      }
    }
    for workload in localWorkloads.values.joined() { needed.insert(workload.record.uid) }
    return needed
  }

  /// What has to be asked for before ``inbound(to:connectionIP:authority:)`` can decide; empty where nothing has.
  public func unsettledKeys(
    inboundTo local: Workload, connectionIP: IPAddress, authority bytes: some Collection<UInt8>
  ) -> [MeshKey] {
    guard settings.isOnDemand, let authority = TunnelAuthority(bytes) else { return [] }
    switch authority {
    case .address(let target):
      guard target.ip != connectionIP.canonical, local.applicationTunnel == nil else { return [] }
      let address = NetworkAddress(network: settings.network, ip: target.ip)
      let waypoints =
        if let workload = workload(at: address) {
          [workload.waypoint].compactMap { $0 }
        } else if let service = service(at: address, clientNamespace: nil) {
          [service.waypoint].compactMap { $0 } + service.weightedWaypoints.map(\.waypoint)
        } else {
          [GatewayReference]()
        }
      return ([.address(address)] + waypoints.map(\.key)).filter { !isSettled($0) }
    case .hostname(let hostname, _):
      guard services(hostname: hostname).isEmpty else { return [] }
      let own = local.services.keys.filter { $0.hostname.foldedHostname == hostname.foldedHostname }
      let names = own.isEmpty ? [NamespacedHostname(namespace: local.namespace, hostname: hostname)] : own
      return names.map(MeshKey.service).filter { !isSettled($0) }
    }
  }
}
