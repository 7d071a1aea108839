import Vocabulary

/// Reads the tree of a mesh file into records (xds.md §7). Policies are in `MeshDocumentDecoder+Policy.swift`.
struct MeshDocumentDecoder {
  let problems: ProblemList

  init(_ problems: ProblemList) { self.problems = problems }

  /// A record and where it was written, so that duplicates can name both places.
  struct Located<Value> {
    var value: Value
    var source: DocumentValue
  }

  private struct ExplicitEndpoint {
    var uid: String
    var ports: [UInt16: UInt16]
    var health: Workload.Health?
    var service: NamespacedHostname
    var source: DocumentValue
  }

  func document(_ root: DocumentValue) -> MeshDocument {
    if root.isNull { return MeshDocument() }
    guard var fields = root.fields() else { return MeshDocument() }
    let workloads = fields.optional("workloads")?.list(workload) ?? []
    let services = fields.optional("services")?.list(service) ?? []
    let policies = fields.optional("policies")?.list(located(policy)) ?? []
    fields.finish()
    reportDuplicates(workloads, "workload uid", key: \.uid)
    reportDuplicates(services.map(\.service), "service", key: \.key.description)
    reportDuplicates(policies, "policy", key: \.key)
    return MeshDocument(
      workloads: join(services.flatMap(\.endpoints), to: workloads), services: services.map(\.service.value),
      policies: policies.map(\.value))
  }

  private func located<Value>(_ read: @escaping (DocumentValue) -> Value?) -> (DocumentValue) -> Located<Value>? {
    { source in read(source).map { Located(value: $0, source: source) } }
  }

  private func reportDuplicates<Value>(_ records: [Located<Value>], _ what: String, key: (Value) -> String) {
    var lines: [String: Int] = [:]
    for record in records {
      let key = key(record.value)
      if let first = lines[key] {
        record.source.report("\(what) \(key) is there already on line \(first)")
      } else {
        lines[key] = record.source.line
      }
    }
  }

  /// Endpoints written with a service are memberships of their workloads.
  private func join(_ endpoints: [ExplicitEndpoint], to workloads: [Located<Workload.Record>]) -> [Workload.Record] {
    var records = workloads.map(\.value)
    let indexes = Dictionary(records.enumerated().map { ($1.uid, $0) }, uniquingKeysWith: { first, _ in first })
    for endpoint in endpoints {
      guard let index = indexes[endpoint.uid] else {
        if problems.isDump { continue }
        endpoint.source.report("no workload in this file has uid \(endpoint.uid)")
        continue
      }
      if let health = endpoint.health, health != records[index].health, !problems.isDump {
        endpoint.source.report("status differs from that of workload \(endpoint.uid)")
      }
      records[index].services[endpoint.service, default: [:]].merge(endpoint.ports) { $1 }
    }
    return records
  }

  // MARK: Workloads

  private func workload(_ value: DocumentValue) -> Located<Workload.Record>? {
    guard var fields = value.fields() else { return nil }
    var record = Workload.Record(uid: fields.optional("uid")?.string() ?? "")
    record.name = fields.optional("name")?.string() ?? ""
    record.namespace = fields.required("namespace")?.name() ?? ""
    record.addresses = fields.required("workloadIps")?.list(ip) ?? []
    record.network = fields.optional("network")?.name(allowsEmpty: true) ?? ""
    record.trustDomain = fields.optional("trustDomain")?.name(allowsEmpty: true) ?? ""
    record.serviceAccount = fields.optional("serviceAccount")?.name(allowsEmpty: true) ?? ""
    record.clusterID = fields.optional("clusterId")?.string() ?? ""
    record.tunnelProtocol = fields.optional("protocol")?.choice([("TCP", .none), ("HBONE", .hbone)]) ?? .none
    record.networkMode =
      fields.optional("networkMode")?.choice([("Standard", .standard), ("HostNetwork", .hostNetwork)]) ?? .standard
    record.health = fields.optional("status")?.choice(health) ?? .healthy
    record.waypoint = fields.optional("waypoint").flatMap(gateway)
    record.networkGateway = fields.optional("networkGateway").flatMap(gateway)
    record.node = fields.optional("node")?.string() ?? ""
    record.hostname = fields.optional("hostname")?.name(allowsEmpty: true) ?? ""
    record.workloadName = fields.optional("workloadName")?.string() ?? ""
    let kinds = [("", Workload.Kind.deployment)] + Workload.Kind.allCases.map { ($0.rawValue, $0) }
    record.kind = fields.optional("workloadType")?.choice(kinds) ?? .deployment
    record.canonicalName = fields.optional("canonicalName")?.string() ?? ""
    record.canonicalRevision = fields.optional("canonicalRevision")?.string() ?? ""
    record.hasNativeTunnel = fields.optional("nativeTunnel")?.boolean() ?? false
    record.applicationTunnel = fields.optional("applicationTunnel").flatMap(applicationTunnel)
    record.authorizationPolicies = fields.optional("authorizationPolicies")?.list(policyKey) ?? []
    record.locality = fields.optional("locality").flatMap(locality) ?? Workload.Locality()
    record.capacity = fields.optional("capacity")?.integer(in: 0...UInt32.max) ?? 1
    record.services = problems.isDump ? dumpedServices(&fields) : writtenServices(&fields)
    fields.finish()
    record.applyIdentityDefaults()
    if record.uid.isEmpty {
      if record.name.isEmpty { value.report("uid or name is required") }
      record.uid = "\(record.clusterID)//Pod/\(record.namespace)/\(record.name)"
    }
    return Located(value: record, source: value)
  }

  private func writtenServices(_ fields: inout DocumentFields) -> [NamespacedHostname: [UInt16: UInt16]] {
    fields.required("services")?.map(key: serviceKey, value: { $0.isNull ? [:] : $0.ports() }) ?? [:]
  }

  /// A dump only lists the names; the ports are with the services' endpoints (observability.md §6.1).
  private func dumpedServices(_ fields: inout DocumentFields) -> [NamespacedHostname: [UInt16: UInt16]] {
    let names = fields.optional("services")?.list(serviceKey) ?? []
    return Dictionary(names.map { ($0, [:]) }) { first, _ in first }
  }

  private var health: [(String, Workload.Health)] { [("Healthy", .healthy), ("Unhealthy", .unhealthy)] }

  private func ip(_ value: DocumentValue) -> IPAddress? {
    value.parsed(as: "an IP address") { IPAddress($0) }
  }

  private func serviceKey(_ value: DocumentValue) -> NamespacedHostname? {
    value.parsed(as: "namespace/hostname") { NamespacedHostname($0) }
  }

  private func policyKey(_ value: DocumentValue) -> String? {
    value.parsed(as: "namespace/name") { NamespacedHostname($0)?.description }
  }

  private func locality(_ value: DocumentValue) -> Workload.Locality? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    return Workload.Locality(
      region: fields.required("region")?.string() ?? "", zone: fields.required("zone")?.string() ?? "",
      subzone: fields.required("subzone")?.string() ?? "")
  }

  private func applicationTunnel(_ value: DocumentValue) -> Workload.ApplicationTunnel? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    guard
      let wire = fields.required("protocol")?.choice([
        ("NONE", Workload.ApplicationTunnel.Wire.none), ("PROXY", .proxy),
      ])
    else { return nil }
    return Workload.ApplicationTunnel(wire, port: fields.optional("port")?.integer(in: 1...UInt16.max))
  }

  private func gateway(_ value: DocumentValue) -> GatewayReference? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    let destination = fields.required("destination")?.parsed(as: "network/ip or namespace/hostname") { text in
      NetworkAddress(text).map(GatewayReference.Destination.address)
        ?? NamespacedHostname(text).map(GatewayReference.Destination.hostname)
    }
    let port = fields.required("hboneMtlsPort")?.integer(in: 1...UInt16.max)
    guard let destination, let port else { return nil }
    return GatewayReference(destination, port: port)
  }

  // MARK: Services

  private func service(
    _ value: DocumentValue
  ) -> (service: Located<Service.Record>, endpoints: [ExplicitEndpoint])? {
    guard var fields = value.fields() else { return nil }
    var record = Service.Record(
      namespace: fields.required("namespace")?.name() ?? "", hostname: fields.required("hostname")?.name() ?? "")
    record.name = fields.required("name")?.string() ?? ""
    record.addresses = fields.required("vips")?.list(networkAddress) ?? []
    for range in fields.optional("cidrVips")?.list(networkPrefix) ?? [] {
      let isHost = range.prefix == IPPrefix(host: range.prefix.address)
      if isHost {
        record.addresses.append(NetworkAddress(network: range.network, ip: range.prefix.address))
      } else {
        record.prefixes.append(range)
      }
    }
    record.ports = fields.required("ports")?.ports() ?? [:]
    record.subjectAltNames = fields.optional("subjectAltNames")?.list { $0.string() } ?? []
    record.waypoint = fields.optional("waypoint").flatMap(gateway)
    record.weightedWaypoints = fields.optional("weightedWaypoints")?.list(weightedWaypoint) ?? []
    record.loadBalancing = fields.optional("loadBalancer").flatMap(loadBalancing)
    record.ipFamilies =
      fields.optional("ipFamilies")?.choice([("Dual", .dual), ("IPv4", .v4Only), ("IPv6", .v6Only)]) ?? .automatic
    record.isCanonical = fields.optional("canonical")?.boolean() ?? false
    record.visibility =
      fields.optional("visibility")?.choice([("Public", .everywhere), ("Namespace", .namespace)]) ?? .everywhere
    let key = record.key
    let endpoints = fields.optional("endpoints")?.map(key: { $0.string() }, value: { endpoint($0, of: key) }) ?? [:]
    fields.finish()
    for (uid, endpoint) in endpoints where uid != endpoint.uid {
      endpoint.source.report("workloadUid is \(endpoint.uid), and the key is \(uid)")
    }
    return (Located(value: record, source: value), endpoints.sorted { $0.key < $1.key }.map(\.value))
  }

  private func endpoint(_ value: DocumentValue, of service: NamespacedHostname) -> ExplicitEndpoint? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    return ExplicitEndpoint(
      uid: fields.required("workloadUid")?.string() ?? "", ports: fields.required("port")?.ports() ?? [:],
      health: fields.optional("status")?.choice(health), service: service, source: value)
  }

  private func networkAddress(_ value: DocumentValue) -> NetworkAddress? {
    value.parsed(as: "network/ip") { NetworkAddress($0) }
  }

  private func networkPrefix(_ value: DocumentValue) -> NetworkPrefix? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    let network = fields.required("network")?.name(allowsEmpty: true)
    guard let prefix = fields.required("cidr").flatMap(prefix), let network else { return nil }
    return NetworkPrefix(network: network, prefix: prefix)
  }

  func prefix(_ value: DocumentValue) -> IPPrefix? {
    value.parsed(as: "address/length") { IPPrefix($0) }
  }

  private func weightedWaypoint(_ value: DocumentValue) -> WeightedWaypoint? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    let waypoint = fields.required("destination").flatMap(gateway)
    guard let weight = fields.required("weight")?.integer(in: 0...UInt32.max), let waypoint else { return nil }
    return WeightedWaypoint(waypoint, weight: weight)
  }

  private func loadBalancing(_ value: DocumentValue) -> LoadBalancing? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    let scopes: [(String, LoadBalancing.Scope)] = [
      ("Region", .region), ("Zone", .zone), ("Subzone", .subzone), ("Node", .node), ("Cluster", .cluster),
      ("Network", .network),
    ]
    let modes: [(String, LoadBalancing.Mode)] = [
      ("Standard", .standard), ("Strict", .strict), ("Failover", .failover), ("Passthrough", .passthrough),
    ]
    return LoadBalancing(
      preferences: fields.required("routingPreferences")?.list { $0.choice(scopes) } ?? [],
      mode: fields.required("mode")?.choice(modes) ?? .standard,
      healthPolicy: fields.required("healthPolicy")?.choice([("OnlyHealthy", .onlyHealthy), ("AllowAll", .allowAll)])
        ?? .onlyHealthy)
  }
}
