import Testing
import Vocabulary

@testable import Mesh

/// services.md §3 and §4.
@Suite struct LoadBalancingTests {
  static let source = Workload(
    .pod("source", "10.0.0.1") {
      $0.network = "n"
      $0.node = "node-1"
      $0.clusterID = "c"
      $0.locality = .init(region: "r", zone: "z", subzone: "s")
    })

  static func candidate(_ network: String, _ region: String, _ zone: String) -> Workload {
    Workload(
      .pod("candidate", "10.0.0.2") {
        $0.network = network
        $0.locality = .init(region: region, zone: zone)
      })
  }

  @Test(
    "network, region, zone: any candidate of the same network outranks every other",
    arguments: [
      ("n", "r", "z", 5, true), ("n", "r", "-", 4, false), ("n", "-", "z", 3, false), ("-", "r", "z", 2, false),
      ("-", "r", "-", 1, false), ("-", "-", "z", 0, false),
    ])
  func rank(_ network: String, _ region: String, _ zone: String, _ rank: Int, _ matchesAll: Bool) {
    let balancing = LoadBalancing(preferences: [.network, .region, .zone], mode: .failover)
    let outcome = balancing.rank(of: Self.candidate(network, region, zone), for: Self.source)
    #expect(outcome == (rank, matchesAll))
  }

  @Test(
    "without a leading network preference, counting stops at the first difference",
    arguments: [
      ("n", "r", "z", 3, true), ("-", "r", "z", 2, false), ("n", "r", "-", 1, false), ("n", "-", "z", 0, false),
    ])
  func plainRank(_ network: String, _ region: String, _ zone: String, _ rank: Int, _ matchesAll: Bool) {
    let balancing = LoadBalancing(preferences: [.region, .zone, .network], mode: .failover)
    let outcome = balancing.rank(of: Self.candidate(network, region, zone), for: Self.source)
    #expect(outcome == (rank, matchesAll))
  }

  /// How often each pod is chosen out of 4000 connections of the source to 10.9.0.1:80.
  static func shares(
    _ pods: [Workload.Record], _ service: (inout Service.Record) -> Void = { _ in }
  ) -> [String: Int] {
    let service = Service.Record.named("shop/cart.local", "n/10.9.0.1", change: service)
    let snapshot = MeshSnapshot(
      MeshSettings(network: "n"), workloads: pods.map { $0.serving("shop/cart.local") } + [source.record],
      services: [service])
    var random = SeededGenerator(seed: 7)
    var counts: [String: Int] = [:]
    for _ in 0..<4000 {
      let decision = snapshot.route(
        from: source, sourceIP: ip("10.0.0.1"), to: socket("10.9.0.1:80"), using: &random)
      switch decision {
      case .tunnel(let route): counts[route.workload.name, default: 0] += 1
      case .refused(let refusal): counts[refusal.code, default: 0] += 1
      default: counts["?", default: 0] += 1
      }
    }
    return counts
  }

  static func pod(_ name: String, _ address: String, change: (inout Workload.Record) -> Void = { _ in })
    -> Workload.Record
  {
    .pod(name, address) {
      $0.network = "n"
      change(&$0)
    }
  }

  @Test("capacity is weight: 0 is never chosen, the rest in proportion")
  func capacity() throws {
    let shares = Self.shares([
      Self.pod("one", "10.1.0.1") { $0.capacity = 1 }, Self.pod("three", "10.1.0.3") { $0.capacity = 3 },
      Self.pod("never", "10.1.0.9") { $0.capacity = 0 },
    ])
    #expect(Set(shares.keys) == ["one", "three"])
    #expect((900...1100).contains(try #require(shares["one"])))
  }

  @Test("capacities as large as they come do not overflow")
  func hugeCapacity() throws {
    let shares = Self.shares(
      (1...3).map { n in
        Self.pod("p\(n)", "10.1.0.\(n)") { $0.capacity = .max }
      })
    #expect(shares.count == 3)
    for count in shares.values { #expect((1200...1470).contains(count)) }
  }

  @Test("when every capacity is 0 there is no upstream")
  func noCapacity() {
    #expect(Self.shares([Self.pod("a", "10.1.0.1") { $0.capacity = 0 }]) == ["ROUTE_NO_HEALTHY_UPSTREAM": 4000])
  }

  @Test("strict keeps only candidates that match every preference")
  func strict() {
    let pods = [
      Self.pod("near", "10.1.0.1") { $0.node = "node-1" }, Self.pod("far", "10.1.0.2") { $0.node = "node-2" },
    ]
    let balancing = LoadBalancing(preferences: [.node], mode: .strict)
    #expect(Self.shares(pods) { $0.loadBalancing = balancing } == ["near": 4000])
    #expect(Self.shares([pods[1]]) { $0.loadBalancing = balancing } == ["ROUTE_NO_HEALTHY_UPSTREAM": 4000])
  }

  @Test("failover takes the best rank there is")
  func failover() {
    let near = Self.pod("near", "10.1.0.1") { $0.locality = .init(region: "r", zone: "z") }
    let region = Self.pod("region", "10.1.0.2") { $0.locality = .init(region: "r", zone: "other") }
    let far = Self.pod("far", "10.1.0.3")
    let balancing = LoadBalancing(preferences: [.network, .region, .zone], mode: .failover)
    #expect(Self.shares([far, region, near]) { $0.loadBalancing = balancing } == ["near": 4000])
    #expect(Self.shares([far, region]) { $0.loadBalancing = balancing } == ["region": 4000])
    #expect(Self.shares([far]) { $0.loadBalancing = balancing } == ["far": 4000])
  }

  @Test("standard mode ignores preferences")
  func standard() {
    let pods = [Self.pod("near", "10.1.0.1") { $0.node = "node-1" }, Self.pod("far", "10.1.0.2")]
    #expect(Self.shares(pods) { $0.loadBalancing = LoadBalancing(preferences: [.node]) }.count == 2)
  }

  @Test("unhealthy endpoints are chosen only when the service says so, and are back when it says so again")
  func health() {
    let pods = [Self.pod("ill", "10.1.0.1") { $0.health = .unhealthy }]
    #expect(Self.shares(pods) == ["ROUTE_NO_HEALTHY_UPSTREAM": 4000])
    #expect(Self.shares(pods) { $0.loadBalancing = LoadBalancing(healthPolicy: .allowAll) } == ["ill": 4000])

    let open = Service.Record.named("shop/cart.local", "n/10.9.0.1") {
      $0.loadBalancing = LoadBalancing(healthPolicy: .allowAll)
    }
    let closed = Service.Record.named("shop/cart.local", "n/10.9.0.1")
    var snapshot = MeshSnapshot(workloads: pods.map { $0.serving("shop/cart.local") }, services: [open])
    for (record, count) in [(closed, 0), (open, 1), (closed, 0), (open, 1)] {
      snapshot = snapshot.applying([.upsertService(record)]).snapshot
      #expect(snapshot.service(record.key).map { snapshot.endpoints(of: $0).count } == count)
    }
  }

  struct PortRow: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var servicePorts: [UInt16: UInt16]
    var endpointPorts: [UInt16: UInt16]
    var tunnel: Workload.ApplicationTunnel?
    var destination: UInt16?
    var waypoint: UInt16?
  }

  @Test(
    "the target port of service port 80",
    arguments: [
      PortRow(
        testDescription: "unknown port", servicePorts: [81: 8081], endpointPorts: [:], tunnel: nil, destination: nil,
        waypoint: nil),
      PortRow(
        testDescription: "unknown port, application tunnel", servicePorts: [:], endpointPorts: [:],
        tunnel: .init(.proxy, port: 15088), destination: nil, waypoint: 80),
      PortRow(
        testDescription: "unknown port, application tunnel without a port", servicePorts: [:], endpointPorts: [:],
        tunnel: .init(.proxy), destination: nil, waypoint: nil),
      PortRow(
        testDescription: "the endpoint's own port wins", servicePorts: [80: 8080], endpointPorts: [80: 9090],
        tunnel: nil, destination: 9090, waypoint: 9090),
      PortRow(
        testDescription: "the service's target port", servicePorts: [80: 8080], endpointPorts: [:], tunnel: nil,
        destination: 8080, waypoint: 8080),
      PortRow(
        testDescription: "a named port the endpoint carries", servicePorts: [80: 0], endpointPorts: [80: 7070],
        tunnel: nil, destination: 7070, waypoint: 7070),
      PortRow(
        testDescription: "a named port it does not carry", servicePorts: [80: 0], endpointPorts: [81: 7070],
        tunnel: nil, destination: nil, waypoint: nil),
      PortRow(
        testDescription: "a named port it does not carry, application tunnel", servicePorts: [80: 0],
        endpointPorts: [:], tunnel: .init(.none, port: 15088), destination: nil, waypoint: 80),
    ])
  func port(_ row: PortRow) {
    let pod = Workload(Self.pod("cart", "10.1.0.1") { $0.applicationTunnel = row.tunnel })
    let service = Service(.named("shop/cart.local", ports: row.servicePorts))
    var endpoints = ServiceEndpoints(balancing: nil)
    endpoints.insert(Endpoint(workload: pod, ports: row.endpointPorts))
    for (purpose, expected) in [(EndpointSelection.Purpose.destination, row.destination), (.waypoint, row.waypoint)] {
      let selection = EndpointSelection(
        service: service, port: 80, purpose: purpose, source: Self.source, excluded: [])
      var random = SeededGenerator(seed: 1)
      #expect(selection.pick(from: endpoints, using: &random)?.port == expected)
    }
  }

  @Test("an endpoint that failed is not chosen again, and the last one leaves nothing")
  func excluding() {
    let pods = [Self.pod("a", "10.1.0.1"), Self.pod("b", "10.1.0.2")].map { $0.serving("shop/cart.local") }
    let snapshot = MeshSnapshot(
      MeshSettings(network: "n"), workloads: pods + [Self.source.record],
      services: [.named("shop/cart.local", "n/10.9.0.1")])
    for seed in 0..<20 {
      let decision = snapshot.route(from: "source", to: "10.9.0.1:80", excluding: ["c//Pod/shop/a"], seed: UInt64(seed))
      guard case .tunnel(let route) = decision else {
        Issue.record("\(decision)")
        continue
      }
      #expect(route.workload.name == "b")
    }
    #expect(
      snapshot.route(from: "source", to: "10.9.0.1:80", excluding: ["c//Pod/shop/a", "c//Pod/shop/b"])
        == .refused(.noHealthyUpstream(socket("10.9.0.1:80"))))
  }
}
