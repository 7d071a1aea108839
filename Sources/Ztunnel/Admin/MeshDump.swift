import Mesh
import Vocabulary

/// The mesh in the form that `istioctl ztunnel-config` reads (observability.md §6.1 to §6.3).
enum MeshDump {
  static func workload(_ workload: Workload) -> JSONValue {
    let locality: JSONValue? =
      workload.locality == Workload.Locality()
      ? nil
      : .object([
        "region": .string(workload.locality.region), "zone": .string(workload.locality.zone),
        "subzone": .string(workload.locality.subzone),
      ])
    return .object([
      "workloadIps": .strings(workload.addresses.map(\.description)),
      "waypoint": workload.waypoint.map(gateway),
      "networkGateway": workload.networkGateway.map(gateway),
      "protocol": workload.tunnelProtocol == .hbone ? "HBONE" : "TCP",
      "networkMode": .capitalized(workload.networkMode.rawValue),
      "uid": .unlessEmpty(workload.uid),
      "name": .string(workload.name),
      "namespace": .string(workload.namespace),
      "trustDomain": .unlessEmpty(workload.trustDomain),
      "serviceAccount": .unlessEmpty(workload.serviceAccount),
      "network": .unlessEmpty(workload.network),
      "workloadName": .unlessEmpty(workload.workloadName),
      "workloadType": .string(workload.kind.rawValue),
      "canonicalName": .unlessEmpty(workload.canonicalName),
      "canonicalRevision": .unlessEmpty(workload.canonicalRevision),
      "hostname": .unlessEmpty(workload.hostname),
      "node": .unlessEmpty(workload.node),
      "nativeTunnel": workload.hasNativeTunnel ? .boolean(true) : nil,
      "applicationTunnel": workload.applicationTunnel.map { tunnel in
        .object([
          "protocol": .string(tunnel.wire.rawValue.uppercased()),
          "port": tunnel.port.map { .integer(Int64($0)) },
        ])
      },
      "authorizationPolicies": workload.authorizationPolicies.isEmpty ? nil : .strings(workload.authorizationPolicies),
      "status": .capitalized(workload.health.rawValue),
      "clusterId": .string(workload.clusterID),
      "locality": locality,
      "services": workload.services.isEmpty ? nil : .strings(workload.services.keys.sorted().map(\.description)),
      "capacity": .integer(Int64(workload.capacity)),
    ])
  }

  static func service(_ service: Service, in mesh: MeshSnapshot) -> JSONValue {
    let prefixes: [JSONValue] = service.prefixes.map {
      .object(["network": .string($0.network), "cidr": .string("\($0.prefix)")])
    }
    let weighted: [JSONValue] = service.weightedWaypoints.map {
      .object(["destination": gateway($0.waypoint), "weight": .integer(Int64($0.weight))])
    }
    return .object([
      "name": .string(service.name),
      "namespace": .string(service.namespace),
      "hostname": .string(service.hostname),
      "vips": .strings(service.addresses.map(\.description)),
      "cidrVips": prefixes.isEmpty ? nil : .array(prefixes),
      "ports": ports(service.ports),
      "endpoints": endpoints(mesh.allEndpoints(of: service.key)),
      "subjectAltNames": .strings(service.subjectAltNames),
      "waypoint": service.waypoint.map(gateway),
      "weightedWaypoints": weighted.isEmpty ? nil : .array(weighted),
      "loadBalancer": service.loadBalancing.map(loadBalancing),
      "ipFamilies": families(service.ipFamilies),
      "canonical": .boolean(service.isCanonical),
      "visibility": service.visibility == .everywhere ? "Public" : "Namespace",
    ])
  }

  static func endpoints(_ endpoints: [Endpoint]) -> JSONValue {
    .object(
      Dictionary(
        endpoints.map { endpoint in
          (
            endpoint.workload.uid,
            .object([
              "workloadUid": .string(endpoint.workload.uid), "port": ports(endpoint.ports),
              "status": .capitalized(endpoint.workload.health.rawValue),
            ])
          )
        }
      ) { first, _ in first })
  }

  static func policy(_ policy: AuthorizationPolicy) -> JSONValue {
    .object([
      "name": .string(policy.name),
      "namespace": .string(policy.namespace),
      "scope": .capitalized(policy.scope.rawValue),
      "action": .capitalized(policy.action.rawValue),
      "dryRun": .boolean(policy.isDryRun),
      "rules": .array(
        policy.rules.map { rule in .array(rule.clauses.map { clause in .array(clause.matches.map(match)) }) }),
    ])
  }

  // MARK: Parts

  private static func gateway(_ reference: GatewayReference) -> JSONValue {
    .object(["destination": .string("\(reference.destination)"), "hboneMtlsPort": .integer(Int64(reference.port))])
  }

  private static func ports(_ ports: [UInt16: UInt16]) -> JSONValue {
    .object(Dictionary(ports.map { ("\($0.key)", .integer(Int64($0.value))) }) { first, _ in first })
  }

  private static func loadBalancing(_ balancing: LoadBalancing) -> JSONValue {
    .object([
      "routingPreferences": .array(balancing.preferences.map { .capitalized($0.rawValue) }),
      "mode": .capitalized(balancing.mode.rawValue),
      "healthPolicy": .capitalized(balancing.healthPolicy.rawValue),
    ])
  }

  private static func families(_ families: Service.IPFamilies) -> JSONValue? {
    switch families {
    case .automatic: nil
    case .v4Only: "IPv4"
    case .v6Only: "IPv6"
    case .dual: "Dual"
    }
  }

  private static func match(_ match: AuthorizationPolicy.Match) -> JSONValue {
    var members: [String: JSONValue?] = [:]
    func add<Value>(
      _ name: String, _ condition: AuthorizationPolicy.Condition<Value>, _ text: (Value) -> JSONValue
    ) {
      if !condition.values.isEmpty { members[name] = .array(condition.values.map(text)) }
      if !condition.excluded.isEmpty {
        members["not" + name.prefix(1).uppercased() + name.dropFirst()] = .array(condition.excluded.map(text))
      }
    }
    add("namespaces", match.namespaces, string)
    add("principals", match.principals, string)
    add("serviceAccounts", match.serviceAccounts) {
      .object(["namespace": .string($0.namespace), "serviceAccount": .string($0.name)])
    }
    add("sourceIps", match.sourceIPs) { .string("\($0)") }
    add("destinationIps", match.destinationIPs) { .string("\($0)") }
    add("destinationPorts", match.destinationPorts) { .integer(Int64($0)) }
    return .object(members)
  }

  private static func string(_ match: AuthorizationPolicy.StringMatch) -> JSONValue {
    switch match {
    case .exact(let text): .object(["Exact": .string(text)])
    case .prefix(let text): .object(["Prefix": .string(text)])
    case .suffix(let text): .object(["Suffix": .string(text)])
    case .presence: .object(["Presence": .array([])])
    }
  }
}
