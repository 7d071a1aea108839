import Testing
import Vocabulary

@testable import Mesh

/// services.md §3 and §4, against a selection that looks at every workload there is.
@Suite struct EndpointSelectionTests {
  static let service = serviceKey("shop/cart.local")

  /// What may be chosen for a connection of `source` to a port of the service, read off the specification: uids, and the
  /// port of each.
  static func candidates(
    _ workloads: some Sequence<Workload.Record>, _ service: Service.Record, _ port: UInt16, _ source: Workload.Record,
    _ purpose: EndpointSelection.Purpose, excluding: Set<String>
  ) -> [String: UInt16] {
    let balancing = service.loadBalancing ?? LoadBalancing()
    func shared(_ scope: LoadBalancing.Scope, _ other: Workload.Record) -> Bool {
      switch scope {
      case .region: other.locality.region == source.locality.region
      case .zone: other.locality.zone == source.locality.zone
      case .subzone: other.locality.subzone == source.locality.subzone
      case .node: other.node == source.node
      case .cluster: other.clusterID == source.clusterID
      case .network: other.network == source.network
      }
    }
    func target(_ workload: Workload.Record, _ own: [UInt16: UInt16]) -> UInt16? {
      let tunnel = workload.applicationTunnel
      guard let listed = service.ports[port] else {
        guard purpose == .waypoint, tunnel != nil else { return nil }
        if let own = own[port], own != 0 { return own }
        return tunnel?.port == nil ? nil : port
      }
      if let own = own[port], own != 0 { return own }
      if listed != 0 { return listed }
      return purpose == .waypoint && tunnel?.port != nil ? port : nil
    }
    var ranked: [(uid: String, port: UInt16, rank: Int)] = []
    for workload in workloads {
      guard let own = workload.services[service.key], workload.capacity > 0, !excluding.contains(workload.uid),
        workload.health == .healthy || balancing.healthPolicy == .allowAll, let port = target(workload, own)
      else { continue }
      let isElsewhere = workload.network != source.network
      guard !workload.addresses.isEmpty || !workload.hostname.isEmpty || (isElsewhere && workload.networkGateway != nil)
      else { continue }
      var rank = 0
      if balancing.mode != .standard {
        for (index, scope) in balancing.preferences.enumerated() {
          if index == 0, scope == .network, isElsewhere { continue }
          guard shared(scope, workload) else { break }
          rank += 1
        }
        if balancing.mode == .strict, rank < balancing.preferences.count { continue }
        if balancing.preferences.first == .network, !isElsewhere { rank += balancing.preferences.count - 1 }
      }
      ranked.append((workload.uid, port, rank))
    }
    let best = ranked.map(\.rank).max() ?? 0
    return Dictionary(uniqueKeysWithValues: ranked.filter { $0.rank == best }.map { ($0.uid, $0.port) })
  }

  static func randomWorkload(_ number: Int, _ random: inout SeededGenerator) -> Workload.Record {
    .pod("p\(number)") {
      if Int.random(in: 0..<10, using: &random) > 0 { $0.addresses = [.v4(0x0a00_0000 + UInt32(number))] }
      $0.network = Int.random(in: 0..<4, using: &random) == 0 ? "far" : "n"
      $0.node = "node-\(Int.random(in: 0..<5, using: &random))"
      $0.clusterID = Bool.random(using: &random) ? "c" : "d"
      $0.locality = .init(
        region: "r\(Int.random(in: 0..<2, using: &random))", zone: "z\(Int.random(in: 0..<3, using: &random))",
        subzone: "s\(Int.random(in: 0..<2, using: &random))")
      $0.capacity = UInt32([0, 1, 1, 1, 2, 7].randomElement(using: &random) ?? 1)
      $0.health = Int.random(in: 0..<6, using: &random) == 0 ? .unhealthy : .healthy
      if $0.network == "far", Bool.random(using: &random) { $0.networkGateway = .address("far/9.9.9.9") }
      switch Int.random(in: 0..<8, using: &random) {
      case 0: $0.applicationTunnel = .init(.proxy)
      case 1: $0.applicationTunnel = .init(.proxy, port: 15088)
      default: break
      }
      let ports: [[UInt16: UInt16]] = [[80: 8080], [80: 8080], [80: 9090, 81: 0], [:], [82: 8282]]
      $0.services = [service: ports.randomElement(using: &random) ?? [:]]
      if Int.random(in: 0..<12, using: &random) == 0 { $0.services = [:] }
    }
  }

  static func randomService(_ random: inout SeededGenerator) -> Service.Record {
    .named("shop/cart.local", "n/10.9.0.1", ports: [80: 8080, 81: 0]) {
      guard Int.random(in: 0..<5, using: &random) > 0 else { return }
      let lists: [[LoadBalancing.Scope]] = [
        [], [.network, .region, .zone], [.node], [.region, .zone, .subzone, .node], [.cluster, .network], [.network],
      ]
      $0.loadBalancing = LoadBalancing(
        preferences: lists.randomElement(using: &random) ?? [],
        mode: [.standard, .strict, .failover, .failover, .passthrough].randomElement(using: &random) ?? .failover,
        healthPolicy: Bool.random(using: &random) ? .onlyHealthy : .allowAll)
    }
  }

  @Test(
    "after any changes, what is chosen is what looking at every workload finds",
    arguments: [(UInt64(1), 12), (2, 60), (3, 70), (4, 300), (5, 300), (6, 31)])
  func agreesWithSpecification(seed: UInt64, size: Int) throws {
    var random = SeededGenerator(seed: seed)
    var records: [String: Workload.Record] = [:]
    var service = Self.randomService(&random)
    var snapshot = MeshSnapshot(MeshSettings(network: "n"), .upsertService(service))
    for _ in 0..<60 {
      var changes: [MeshChange] = []
      for _ in 0..<Int.random(in: 1...(size / 2), using: &random) {
        let record = Self.randomWorkload(Int.random(in: 0..<size, using: &random), &random)
        if Int.random(in: 0..<3, using: &random) > 0 {
          records[record.uid] = record
          changes.append(.upsertWorkload(record))
        } else {
          records[record.uid] = nil
          changes.append(.removeWorkload(uid: record.uid))
        }
      }
      // Endpoints follow from workloads and services alone, so that it does not matter where these stand.
      switch Int.random(in: 0..<6, using: &random) {
      case 0:
        service = Self.randomService(&random)
        changes.append(.upsertService(service))
      case 1:
        service = Self.randomService(&random)
        changes.insert(.upsertService(service), at: 0)
      case 2: changes += [.removeService(Self.service), .upsertService(service)]
      default: break
      }
      snapshot = snapshot.applying(changes).snapshot
      try check(snapshot, records, service, &random)
    }
  }

  private func check(
    _ snapshot: MeshSnapshot, _ records: [String: Workload.Record], _ service: Service.Record,
    _ random: inout SeededGenerator
  ) throws {
    let endpoints = snapshot.endpoints[Self.service] ?? ServiceEndpoints(balancing: nil)
    #expect(endpoints.count == records.values.count { $0.services[Self.service] != nil })
    for _ in 0..<8 {
      let source = Self.randomWorkload(9999, &random)
      let port: UInt16 = [80, 81, 82].randomElement(using: &random) ?? 80
      let purpose = Bool.random(using: &random) ? EndpointSelection.Purpose.destination : .waypoint
      let excluded = Set(records.keys.sorted().prefix(Int.random(in: 0...2, using: &random)))
      let expected = Self.candidates(records.values, service, port, source, purpose, excluding: excluded)
      let selection = EndpointSelection(
        service: Service(service), port: port, purpose: purpose, source: Workload(source), excluded: excluded)
      guard let winner = selection.pick(from: endpoints, using: &random) else {
        #expect(expected.isEmpty, "\(service) \(source) \(port)")
        continue
      }
      #expect(expected[winner.workload.uid] == winner.port, "\(service) \(source) \(port)")
      #expect(winner.candidates == expected.count)
    }
  }

  @Test("each endpoint of a pool has as many tickets as its capacity, also after many have come and gone")
  func tickets() {
    var random = SeededGenerator(seed: 8)
    var pool = EndpointPool()
    var capacities: [String: UInt32] = [:]
    for number in 0..<3000 {
      let record = Workload.Record.pod("p\(number % 900)") { $0.capacity = UInt32(number % 4) }
      let isHere = capacities.removeValue(forKey: record.uid) != nil
      let isRemoved = pool.remove(uid: record.uid)
      #expect(isRemoved == isHere)
      if Int.random(in: 0..<3, using: &random) > 0 {
        pool.insert(Endpoint(workload: Workload(record), ports: [:]))
        capacities[record.uid] = record.capacity
      }
    }
    var drawn: [String: UInt32] = [:]
    for ticket in 0..<pool.weight { drawn[pool.endpoint(at: ticket)?.workload.uid ?? "?", default: 0] += 1 }
    #expect(drawn == capacities.filter { $0.value > 0 })
    #expect(pool.count == capacities.count && pool.endpoint(at: pool.weight) == nil)
    for uid in capacities.keys { pool.remove(uid: uid) }
    #expect(pool.isEmpty && pool.weight == 0)
  }

  @Test("a changed copy leaves the pool that it was copied from as it was")
  func persistent() {
    var pool = EndpointPool()
    for number in 0..<200 { pool.insert(Endpoint(workload: Workload(.pod("p\(number)")), ports: [:])) }
    var copy = pool
    for number in 0..<150 { copy.remove(uid: "c//Pod/shop/p\(number)") }
    #expect(pool.count == 200 && pool.weight == 200 && copy.count == 50 && copy.weight == 50)
    var uids: Set<String> = []
    pool.forEach { uids.insert($0.workload.uid) }
    #expect(uids.count == 200)
  }

  @Test("a scope that is preferred twice is preferred once")
  func repeatedScope() {
    #expect(LoadBalancing(preferences: [.zone, .region, .zone]).preferences == [.zone, .region])
  }
}
