import HashTreeCollections
import Vocabulary

extension MeshSnapshot {
  /// The snapshot after `changes`, made in the order given, and what they amounted to.
  ///
  /// Endpoints follow from workloads alone, so the order of workloads and services does not matter (services.md §2).
  /// An upsert equal to what is known changes nothing.
  public func applying(_ changes: some Sequence<MeshChange>) -> (snapshot: MeshSnapshot, delta: MeshDelta) {
    var update = MeshUpdate(of: self)
    update.apply(changes)
    return (update.snapshot, update.delta)
  }

  mutating func apply(_ change: MeshChange, _ delta: inout MeshDelta) {
    switch change {
    case .upsertWorkload(let record): upsert(record, &delta)
    case .upsertService(let record): upsert(record, &delta)
    case .upsertPolicy(let policy):
      if policies.insert(policy) { delta.changedPolicies.insert(policy.key) }
    case .removeWorkload(let uid):
      if !removeWorkload(uid, &delta) { delta.unknownRemovals.append(uid) }
    case .removeService(let key):
      if !removeService(key, &delta) { delta.unknownRemovals.append(key.description) }
    case .removePolicy(let key):
      if policies.remove(key) {
        delta.changedPolicies.insert(key)
      } else {
        delta.unknownRemovals.append(key)
      }
    case .removeAddress(let name):
      if removeWorkload(name, &delta) { return }
      if let key = NamespacedHostname(name), removeService(key, &delta) { return }
      delta.unknownRemovals.append(name)
    case .settle(let key): delta.areKeysChanged = answeredKeys.insert(key).inserted || delta.areKeysChanged
    case .unsettle(let key): delta.areKeysChanged = answeredKeys.remove(key) != nil || delta.areKeysChanged
    }
  }

  // MARK: Workloads

  private mutating func upsert(_ record: Workload.Record, _ delta: inout MeshDelta) {
    var record = record
    record.applyIdentityDefaults()
    if let old = workloads[record.uid] {
      if old.record == record { return }
      unindex(old, &delta)
    }
    index(Workload(record, isLocal: isLocal(record)), &delta)
    delta.removedWorkloads.remove(record.uid)
    delta.changedWorkloads.insert(record.uid)
  }

  private mutating func removeWorkload(_ uid: String, _ delta: inout MeshDelta) -> Bool {
    guard let old = workloads[uid] else { return false }
    unindex(old, &delta)
    workloads[uid] = nil
    delta.changedWorkloads.remove(uid)
    delta.removedWorkloads.insert(uid)
    return true
  }

  private mutating func index(_ workload: Workload, _ delta: inout MeshDelta) {
    workloads[workload.uid] = workload
    if workload.networkMode == .standard {
      for ip in Set(workload.addresses) {
        workloadsByAddress[NetworkAddress(network: workload.network, ip: ip), default: ShortList()].insertByRank(
          workload)
      }
    }
    if !workload.hostname.isEmpty {
      workloadsByHostname[hostname(of: workload), default: ShortList()].insertByRank(workload)
    }
    if isLocal(workload.record) {
      localWorkloads[localName(of: workload), default: ShortList()].insertByRank(workload)
      localIdentities[workload.identity, default: 0] += 1
      delta.touchedIdentities.insert(workload.identity)
    }
    for (key, ports) in workload.services {
      endpoints[key, default: ServiceEndpoints(balancing: services[key]?.loadBalancing)]
        .insert(Endpoint(workload: workload, ports: ports))
    }
  }

  private mutating func unindex(_ workload: Workload, _ delta: inout MeshDelta) {
    if workload.networkMode == .standard {
      for ip in Set(workload.addresses) {
        workloadsByAddress.removeWorkload(workload, at: NetworkAddress(network: workload.network, ip: ip))
      }
    }
    if !workload.hostname.isEmpty { workloadsByHostname.removeWorkload(workload, at: hostname(of: workload)) }
    if isLocal(workload.record) {
      localWorkloads.removeWorkload(workload, at: localName(of: workload))
      let remaining = (localIdentities[workload.identity] ?? 0) - 1
      localIdentities[workload.identity] = remaining > 0 ? remaining : nil
      delta.touchedIdentities.insert(workload.identity)
    }
    for (key, ports) in workload.services {
      endpoints[key]?.remove(Endpoint(workload: workload, ports: ports))
      if endpoints[key]?.isEmpty == true { endpoints[key] = nil }
    }
  }

  private func isLocal(_ workload: Workload.Record) -> Bool {
    settings.localNode == nil || settings.localNode == workload.node
  }

  private func localName(of workload: Workload) -> LocalName {
    LocalName(namespace: workload.namespace, name: workload.name, serviceAccount: workload.serviceAccount)
  }

  private func hostname(of workload: Workload) -> NamespacedHostname {
    NamespacedHostname(namespace: workload.namespace, hostname: workload.hostname)
  }

  // MARK: Services

  private mutating func upsert(_ record: Service.Record, _ delta: inout MeshDelta) {
    if let old = services[record.key] {
      if old.record == record { return }
      unindex(old)
    }
    index(Service(record))
    endpoints[record.key]?.balance(as: record.loadBalancing)
    delta.removedServices.remove(record.key)
    delta.changedServices.insert(record.key)
  }

  private mutating func removeService(_ key: NamespacedHostname, _ delta: inout MeshDelta) -> Bool {
    guard let old = services[key] else { return false }
    unindex(old)
    endpoints[key]?.balance(as: nil)
    services[key] = nil
    delta.changedServices.remove(key)
    delta.removedServices.insert(key)
    return true
  }

  private mutating func index(_ service: Service) {
    services[service.key] = service
    servicesByHostname[service.hostname.foldedHostname, default: ShortList()].insertService(service)
    for address in Set(service.addresses) { servicesByAddress[address, default: ShortList()].insertService(service) }
    for range in Set(service.prefixes) {
      servicesByPrefix[range.network, default: PrefixTable()].insert(service, at: range.prefix)
    }
  }

  private mutating func unindex(_ service: Service) {
    servicesByHostname.removeService(service.key, at: service.hostname.foldedHostname)
    for address in Set(service.addresses) { servicesByAddress.removeService(service.key, at: address) }
    for range in Set(service.prefixes) {
      servicesByPrefix[range.network]?.remove(service.key, at: range.prefix)
      if servicesByPrefix[range.network]?.isEmpty == true { servicesByPrefix[range.network] = nil }
    }
  }
}

extension MeshDelta {
  mutating func settleIdentities(
    before: TreeDictionary<SPIFFEIdentity, Int>, after: TreeDictionary<SPIFFEIdentity, Int>
  ) {
    addedLocalIdentities = touchedIdentities.filter { before[$0] == nil && after[$0] != nil }
    removedLocalIdentities = touchedIdentities.filter { before[$0] != nil && after[$0] == nil }
    touchedIdentities = []
  }
}

extension ShortList<Workload> {
  /// Best rank first, and the latest first among equals.
  fileprivate mutating func insertByRank(_ workload: Workload) {
    let index = firstIndex { $0.addressRank <= workload.addressRank } ?? endIndex
    insert(workload, at: index)
  }
}

extension TreeDictionary where Value == ShortList<Workload> {
  fileprivate mutating func removeWorkload(_ workload: Workload, at key: Key) {
    guard var entry = self[key] else { return }
    entry.removeAll { $0.uid == workload.uid }
    self[key] = entry.isEmpty ? nil : entry
  }
}

extension TreeDictionary where Value == ShortList<Service> {
  fileprivate mutating func removeService(_ service: NamespacedHostname, at key: Key) {
    guard var entry = self[key] else { return }
    entry.removeAll { $0.key == service }
    self[key] = entry.isEmpty ? nil : entry
  }
}
