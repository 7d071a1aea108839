import GRPC
import IstioAPI
import Mesh
import SwiftProtobuf
import Testing
import Vocabulary

@testable import XDS

/// Bytes of a resource that must not be taken, and the field that is at fault.
struct BadResource: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let name: String
  let field: String
  let make: @Sendable () throws -> [UInt8]

  static func workload(
    _ what: String, _ field: String, _ change: @escaping @Sendable (inout Istio_Workload_Workload) -> Void
  ) -> BadResource {
    BadResource(testDescription: what, name: "u", field: field) { try XDSTests.workload("u", change) }
  }

  static func service(
    _ what: String, _ field: String, _ change: @escaping @Sendable (inout Istio_Workload_Service) -> Void
  ) -> BadResource {
    BadResource(testDescription: what, name: "ns/s.ns", field: field) { try XDSTests.service(change) }
  }

  static func match(_ what: String, _ field: String, _ change: @escaping @Sendable (inout Istio_Security_Match) -> Void)
    -> BadResource
  {
    BadResource(testDescription: what, name: "ns/p", field: field) { try XDSTests.policy("p", matching: change) }
  }

  init(testDescription: String, name: String, field: String, make: @escaping @Sendable () throws -> [UInt8]) {
    self.testDescription = testDescription
    self.name = name
    self.field = field
    self.make = make
  }
}

@Suite("Resource decoder")
struct ResourceDecoderTests {
  private func decode(_ type: ResourceType, name: String, bytes: [UInt8]) throws(ResourceRejection) -> MeshChange {
    var decoder = ResourceDecoder()
    return try decoder.change(type, name: name, bytes: bytes)
  }

  @Test("a workload's fields are all taken")
  func fullWorkload() throws {
    let bytes = try workload("u") {
      $0.addresses = [.init([10, 0, 0, 1]), .init([UInt8](repeating: 0, count: 15) + [1])]
      $0.network = "net"
      $0.tunnelProtocol = .hbone
      $0.trustDomain = "td"
      $0.serviceAccount = "sa"
      $0.waypoint.address.network = "net"
      $0.waypoint.address.address = .init([10, 0, 0, 2])
      $0.waypoint.hboneMtlsPort = 15008
      $0.networkGateway.hostname.namespace = "istio"
      $0.networkGateway.hostname.hostname = "east"
      $0.networkGateway.hboneMtlsPort = 15009
      $0.node = "n"
      $0.workloadType = .job
      $0.authorizationPolicies = ["ns/p"]
      $0.status = .unhealthy
      $0.clusterID = "c"
      $0.services = ["ns/s.ns": .with { $0.ports = [.with { ($0.servicePort, $0.targetPort) = (80, 8080) }] }]
      $0.applicationTunnel.protocol = .proxy
      $0.applicationTunnel.port = 9
      $0.locality.zone = "z"
      $0.networkMode = .hostNetwork
      $0.capacity = .init(0)
    }
    guard case .upsertWorkload(let record) = try decode(.address, name: "u", bytes: bytes) else {
      Issue.record("no workload")
      return
    }
    #expect(record.addresses == [.v4(0x0a00_0001), .v6(0, 1)])
    #expect(record.tunnelProtocol == .hbone && record.network == "net" && record.node == "n")
    #expect(record.waypoint?.description == "net/10.0.0.2:15008")
    #expect(record.networkGateway?.description == "istio/east:15009")
    #expect(record.kind == .job && record.health == .unhealthy && record.networkMode == .hostNetwork)
    #expect(record.authorizationPolicies == ["ns/p"])
    #expect(record.services == [NamespacedHostname(namespace: "ns", hostname: "s.ns"): [80: 8080]])
    #expect(record.applicationTunnel == Workload.ApplicationTunnel(.proxy, port: 9))
    #expect(record.capacity == 0, "an explicit 0 is kept: never selected")
  }

  @Test("absent capacity is 1, empty identity fields become the defaults in the mesh")
  func defaults() throws {
    let change = try decode(.address, name: "u", bytes: try workload("u"))
    let mesh = MeshSnapshot().applying([change]).snapshot
    let known = try #require(mesh.workload(uid: "u"))
    #expect(known.identity.description == "spiffe://cluster.local/ns/ns/sa/default")
    #expect(known.clusterID == "Kubernetes" && known.capacity == 1)
  }

  @Test("a service's addresses are ranges only where the length says so")
  func serviceAddresses() throws {
    let bytes = try service {
      $0.addresses = [
        .with { $0.address = .init([10, 0, 0, 1]) },
        .with { ($0.address, $0.length) = (.init([10, 0, 0, 2]), 32) },
        .with { ($0.address, $0.length, $0.network) = (.init([10, 1, 0, 0]), 16, "n") },
        .with { ($0.address, $0.length) = (.init([0, 0, 0, 0]), 0) },
      ]
      $0.ports = [.with { $0.servicePort = 80 }]
      $0.visibility = .UNRECOGNIZED(9)
      $0.loadBalancing.routingPreference = [.network, .zone]
      $0.loadBalancing.mode = .failover
    }
    guard case .upsertService(let record) = try decode(.address, name: "ns/s.ns", bytes: bytes) else {
      Issue.record("no service")
      return
    }
    #expect(record.addresses.map(\.description) == ["/10.0.0.1", "/10.0.0.2"])
    #expect(record.prefixes.map(\.description) == ["n/10.1.0.0/16", "/0.0.0.0/0"])
    #expect(record.ports == [80: 0])
    #expect(record.visibility == .everywhere)
    #expect(record.loadBalancing == LoadBalancing(preferences: [.network, .zone], mode: .failover))
  }

  @Test("a policy keeps its structure")
  func fullPolicy() throws {
    let bytes = try policy("p") {
      $0.scope = .workloadSelector
      $0.action = .deny
      $0.rules = [
        .with {
          $0.clauses = [
            .with {
              $0.matches = [
                .with {
                  $0.principals = [.with { $0.exact = "a" }, .with { $0.presence = .init() }]
                  $0.notNamespaces = [.with { $0.prefix = "b" }]
                  $0.sourceIps = [.with { ($0.address, $0.length) = (.init([10, 0, 0, 0]), 8) }]
                  $0.notDestinationPorts = [80]
                  $0.serviceAccounts = [.with { ($0.namespace, $0.serviceAccount) = ("n", "s") }]
                }
              ]
            }
          ]
        }
      ]
    }
    var match = AuthorizationPolicy.Match()
    match.principals = .init([.exact("a"), .presence])
    match.namespaces = .init(excluding: [.prefix("b")])
    match.sourceIPs = .init([try #require(IPPrefix("10.0.0.0/8"))])
    match.destinationPorts = .init(excluding: [80])
    match.serviceAccounts = .init([.init(namespace: "n", name: "s")])
    #expect(
      try decode(.authorization, name: "ns/p", bytes: bytes)
        == .upsertPolicy(
          AuthorizationPolicy(
            name: "p", namespace: "ns", scope: .workloadSelector, action: .deny, rules: [.init([.init([match])])])))
  }

  @Test(
    "what cannot be understood is refused and names its field",
    arguments: [
      BadResource.workload("address of 5 bytes", "addresses") { $0.addresses = [.init([1, 2, 3, 4, 5])] },
      .workload("legacy tunnel", "tunnel_protocol") { $0.tunnelProtocol = .legacyIstioMtls },
      .workload("unknown tunnel", "tunnel_protocol") { $0.tunnelProtocol = .UNRECOGNIZED(7) },
      .workload("unknown status", "status") { $0.status = .UNRECOGNIZED(7) },
      .workload("unknown network mode", "network_mode") { $0.networkMode = .UNRECOGNIZED(7) },
      .workload("unknown application tunnel", "application_tunnel.protocol") {
        $0.applicationTunnel.protocol = .UNRECOGNIZED(7)
      },
      .workload("service without a slash", "services") { $0.services = ["s": .init()] },
      .workload("service port too large", "services") {
        $0.services = ["ns/s": .with { $0.ports = [.with { $0.servicePort = 65536 }] }]
      },
      .workload("waypoint without a destination", "waypoint") { $0.waypoint.hboneMtlsPort = 1 },
      .workload("waypoint port too large", "waypoint") {
        $0.waypoint.hostname.hostname = "h"
        $0.waypoint.hboneMtlsPort = 70000
      },
      .service("address too short", "addresses") { $0.addresses = [.init()] },
      .service("prefix too long", "addresses") {
        $0.addresses = [.with { ($0.address, $0.length) = (.init([1, 2, 3, 4]), 33) }]
      },
      .service("prefix that wraps", "addresses") {
        $0.addresses = [.with { ($0.address, $0.length) = (.init([1, 2, 3, 4]), 256) }]
      },
      .service("unspecified scope", "routing_preference") {
        $0.loadBalancing.routingPreference = [.unspecifiedScope]
      },
      .service("unknown mode", "mode") { $0.loadBalancing.mode = .UNRECOGNIZED(7) },
      .service("unknown health policy", "health_policy") { $0.loadBalancing.healthPolicy = .UNRECOGNIZED(7) },
      .service("unknown families", "ip_families") { $0.ipFamilies = .UNRECOGNIZED(7) },
      .service("weighted waypoint without a destination", "weighted_waypoints") { $0.weightedWaypoints = [.init()] },
      .match("match without an arm", "principals") { $0.principals = [.init()] },
      .match("excluded match without an arm", "not_namespaces") { $0.notNamespaces = [.init()] },
      .match("address too short", "source_ips") { $0.sourceIps = [.with { $0.address = .init([1]) }] },
      .match("prefix too long", "not_destination_ips") {
        $0.notDestinationIps = [.with { ($0.address, $0.length) = (.init([1, 2, 3, 4]), 33) }]
      },
      .match("port too large", "destination_ports") { $0.destinationPorts = [65616] },
      .match("extension", "matches") { $0.extensions = [.init()] },
    ])
  func refused(_ bad: BadResource) throws {
    let type: ResourceType = bad.name == "ns/p" ? .authorization : .address
    let bytes = try bad.make()
    do throws(ResourceRejection) {
      let change = try decode(type, name: bad.name, bytes: bytes)
      Issue.record("taken as \(change)")
    } catch {
      guard case .field(let field, _) = error else {
        Issue.record("\(error)")
        return
      }
      #expect(field == bad.field)
    }
  }

  @Test("a condition that a later Istio adds to a policy is not left out unseen")
  func unknownCondition() throws {
    // Field 20, a string, inside the match.
    let match: [UInt8] = [0xa2, 0x01, 0x01, 0x78]
    let clause = [UInt8(0x12), UInt8(match.count)] + match
    let rule = [UInt8(0x0a), UInt8(clause.count)] + clause
    let bytes = try policy("p") + [0x2a, UInt8(rule.count)] + rule
    #expect(throws: ResourceRejection.field("matches", "it holds a field that is not known here")) {
      try decode(.authorization, name: "ns/p", bytes: bytes)
    }
  }

  @Test("a resource under another name than its own is refused: it could never be removed")
  func misnamed() throws {
    let bytes = try workload("u")
    #expect(throws: ResourceRejection.misnamed(holds: "u")) {
      try decode(.address, name: "v", bytes: bytes)
    }
  }

  @Test("any bytes give a change or a reason, and nothing else", arguments: 0..<20)
  func anything(_ seed: UInt64) throws {
    var random = Mutations(seed)
    let seeds: [(ResourceType, String, [UInt8])] = [
      (.address, "u", try workload("u") { $0.addresses = [.init([1, 2, 3, 4])] }),
      (
        .address, "ns/s.ns",
        try service { $0.addresses = [.with { ($0.address, $0.length) = (.init([1, 2, 3, 4]), 8) }] }
      ),
      (.authorization, "ns/p", try policy("p") { $0.principals(["x"]) }),
    ]
    var taken = 0
    for _ in 0..<2000 {
      let (type, name, original) = seeds[Int(random.next() % 3)]
      let bytes = random.mutate(original)
      do throws(ResourceRejection) {
        switch try decode(type, name: name, bytes: bytes) {
        case .upsertWorkload(let record): #expect(record.uid == name)
        case .upsertService(let record): #expect(record.key.description == name)
        case .upsertPolicy(let policy): #expect(policy.key == name)
        default: Issue.record("a removal came out of a resource")
        }
        taken += 1
      } catch {
        #expect(error.summary.utf8.count < 2048)
        // What stands in is under the same name, or is not there.
        let standIn = PolicyStandIn.policy(name: name, bytes: bytes)
        #expect(standIn == nil || standIn?.key == name)
      }
    }
    #expect(taken > 0, "the mutations leave some resources whole")
  }
}

extension Istio_Security_Authorization {
  fileprivate mutating func principals(_ names: [String]) {
    rules = [
      .with {
        $0.clauses = [
          .with { $0.matches = [.with { $0.principals = names.map { name in .with { $0.exact = name } } }] }
        ]
      }
    ]
  }
}

/// Repeatable changes of bytes.
private struct Mutations {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1 }

  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state
  }

  mutating func mutate(_ bytes: [UInt8]) -> [UInt8] {
    var bytes = bytes
    for _ in 0..<(1 + next() % 4) {
      guard !bytes.isEmpty else { return bytes }
      let index = Int(next() % UInt64(bytes.count))
      switch next() % 5 {
      case 0: bytes[index] = UInt8(truncatingIfNeeded: next())
      case 1: bytes[index] ^= 1 << UInt8(next() % 8)
      case 2: bytes.remove(at: index)
      case 3: bytes.insert(UInt8(truncatingIfNeeded: next()), at: index)
      default: bytes.removeLast(Int(next() % UInt64(bytes.count)))
      }
    }
    return bytes
  }
}
