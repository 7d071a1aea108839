import Testing
import Vocabulary

@testable import Mesh

/// services.md §2.
@Suite struct SnapshotUpdateTests {
  // MARK: Equivalence with rebuilding

  /// What can be asked of a snapshot, in a form that two can be compared by. Ties between equals at one address
  /// are left out on purpose: there the latest wins, and a rebuilt snapshot has no latest.
  struct Answers: Equatable {
    var workloads: [String: Workload.Record]
    var services: [NamespacedHostname: Service.Record]
    var policies: [String: AuthorizationPolicy]
    var byAddress: [String: Set<String>]
    var byHostname: [String: Set<String>]
    var local: [String: Set<String>]
    var identities: [String: Int]
    var endpoints: [String: [String: [UInt16: UInt16]]]
    var servicesByHostname: [String: [NamespacedHostname]]
    var servicesByAddress: [String: [NamespacedHostname]]
    var byRange: [String: NamespacedHostname?]
    var verdicts: [String: PolicyVerdict]

    init(_ snapshot: MeshSnapshot) {
      workloads = Dictionary(uniqueKeysWithValues: snapshot.workloads.map { ($0, $1.record) })
      services = Dictionary(uniqueKeysWithValues: snapshot.services.map { ($0, $1.record) })
      policies = Dictionary(uniqueKeysWithValues: snapshot.allPolicies.map { ($0.key, $0) })
      byAddress = Dictionary(
        uniqueKeysWithValues: snapshot.workloadsByAddress.map { ("\($0)", Set($1.map(\.uid))) })
      byHostname = Dictionary(
        uniqueKeysWithValues: snapshot.workloadsByHostname.map { ("\($0)", Set($1.map(\.uid))) })
      local = Dictionary(uniqueKeysWithValues: snapshot.localWorkloads.map { ("\($0)", Set($1.map(\.uid))) })
      identities = Dictionary(uniqueKeysWithValues: snapshot.localIdentities.map { ("\($0)", $1) })
      endpoints = Dictionary(
        uniqueKeysWithValues: snapshot.endpoints.map { key, value in
          var ports: [String: [UInt16: UInt16]] = [:]
          value.forEach { ports[$0.workload.uid] = $0.ports }
          return ("\(key)", ports)
        })
      servicesByHostname = Dictionary(
        uniqueKeysWithValues: snapshot.servicesByHostname.map { ($0, $1.map { $0.key }) })
      servicesByAddress = Dictionary(
        uniqueKeysWithValues: snapshot.servicesByAddress.map { ("\($0)", $1.map { $0.key }) })
      byRange = [:]
      verdicts = [:]
      for network in ["", "n"] {
        for n in 0..<16 {
          for client in [nil, "a", "b"] {
            let address = NetworkAddress(network: network, ip: .v4(0x0a00_0000 | UInt32(n * 16)))
            byRange["\(address) \(client ?? "-")"] = .some(snapshot.service(at: address, clientNamespace: client)?.key)
          }
        }
      }
      for workload in snapshot.allWorkloads {
        let connection = ConnectionAttributes(sourceIP: ip("10.0.0.9"), destination: socket("10.0.0.7:80"))
        verdicts[workload.uid] = snapshot.evaluate(connection, destination: workload).verdict
      }
    }
  }

  struct ChangeMaker {
    var random: SeededGenerator

    mutating func pick<Element>(_ choices: [Element]) -> Element {
      choices[Int.random(in: 0..<choices.count, using: &random)]
    }
    mutating func address() -> IPAddress { .v4(0x0a00_0000 | UInt32.random(in: 0..<32, using: &random)) }
    mutating func service() -> NamespacedHostname { serviceKey("\(pick(["a", "b"]))/\(pick(["x", "y", "z"])).local") }
    mutating func policyKey() -> String { "\(pick(["a", "b"]))/\(pick(["p", "q"]))" }
    mutating func uid() -> String { "\(pick(["c//Pod", "c/entry"]))/a/\(Int.random(in: 0..<6, using: &random))" }

    mutating func workload() -> Workload.Record {
      var record = Workload.Record(uid: uid())
      record.namespace = pick(["a", "b"])
      record.name = pick(["one", "two"])
      record.node = pick(["here", "there"])
      record.network = pick(["", "n"])
      record.serviceAccount = pick(["", "web", "cart"])
      record.hostname = pick(["", "db.local"])
      record.addresses = (0..<Int.random(in: 0...2, using: &random)).map { _ in address() }
      record.networkMode = pick([.standard, .standard, .hostNetwork])
      record.health = pick([.healthy, .unhealthy])
      for _ in 0..<Int.random(in: 0...2, using: &random) { record.services[service()] = [80: pick([8080, 9090])] }
      if Bool.random(using: &random) { record.authorizationPolicies = [policyKey()] }
      return record
    }

    mutating func serviceRecord() -> Service.Record {
      var record = Service.Record(key: service())
      record.addresses = [NetworkAddress(network: pick(["", "n"]), ip: address())]
      if Bool.random(using: &random), let range = IPPrefix(address(), length: pick([24, 27, 28, 30])) {
        record.prefixes = [NetworkPrefix(network: pick(["", "n"]), prefix: range)]
      }
      record.isCanonical = Bool.random(using: &random)
      record.visibility = pick([.everywhere, .namespace])
      return record
    }

    mutating func policy() -> AuthorizationPolicy {
      let name = policyKey().split(separator: "/")
      return .make(
        String(name[1]), pick([.allow, .deny]), scope: pick([.global, .namespace, .workloadSelector]),
        namespace: String(name[0]), isDryRun: Bool.random(using: &random),
        rules: pick([[], [[]], [[[.notPrincipal(.presence)]]]]))
    }

    mutating func change() -> MeshChange {
      switch Int.random(in: 0..<10, using: &random) {
      case 0...3: .upsertWorkload(workload())
      case 4: .removeWorkload(uid: uid())
      case 5, 6: .upsertService(serviceRecord())
      case 7: pick([.removeService(service()), .removeAddress(name: uid()), .removeAddress(name: "\(service())")])
      case 8: .upsertPolicy(policy())
      default: .removePolicy(key: policyKey())
      }
    }
  }

  @Test("any sequence of updates ends where building from what is left would", arguments: 0..<40)
  func equivalence(_ seed: UInt64) {
    var maker = ChangeMaker(random: SeededGenerator(seed: seed))
    let settings = MeshSettings(localNode: "here")
    var snapshot = MeshSnapshot(settings: settings)
    for _ in 0..<25 {
      let before = snapshot
      let remembered = Answers(before)
      let changes = (0..<Int.random(in: 1...6, using: &maker.random)).map { _ in maker.change() }
      let (next, delta) = snapshot.applying(changes)
      snapshot = next
      let document = MeshDocument(
        workloads: snapshot.allWorkloads.map(\.record), services: snapshot.allServices.map(\.record),
        policies: Array(snapshot.allPolicies))
      #expect(Answers(snapshot) == Answers(MeshSnapshot(document: document, settings: settings)))
      #expect(Answers(before) == remembered, "an earlier snapshot changed")
      expect(delta, leadsFrom: before, to: snapshot)
    }
  }

  /// Everything that differs must be in the delta; what is in it may have been changed back.
  private func expect(_ delta: MeshDelta, leadsFrom before: MeshSnapshot, to after: MeshSnapshot) {
    for workload in after.allWorkloads where before.workload(uid: workload.uid) != workload {
      #expect(delta.changedWorkloads.contains(workload.uid))
    }
    for workload in before.allWorkloads where after.workload(uid: workload.uid) == nil {
      #expect(delta.removedWorkloads.contains(workload.uid))
    }
    for policy in after.allPolicies where before.policy(key: policy.key) != policy {
      #expect(delta.changedPolicies.contains(policy.key))
    }
    let (old, new) = (Set(before.localIdentities.keys), Set(after.localIdentities.keys))
    #expect(delta.addedLocalIdentities == new.subtracting(old))
    #expect(delta.removedLocalIdentities == old.subtracting(new))
    #expect(delta.changedWorkloads.isDisjoint(with: delta.removedWorkloads))
    #expect(delta.changedServices.isDisjoint(with: delta.removedServices))
  }

  @Test("reloading a document changes what differs and nothing else", arguments: 0..<20)
  func documents(_ seed: UInt64) {
    var maker = ChangeMaker(random: SeededGenerator(seed: seed &+ 1000))
    func document() -> MeshDocument {
      let snapshot = MeshSnapshot(settings: .init()).applying((0..<30).map { _ in maker.change() }).snapshot
      return MeshDocument(
        workloads: snapshot.allWorkloads.map(\.record), services: snapshot.allServices.map(\.record),
        policies: Array(snapshot.allPolicies))
    }
    let (old, new) = (document(), document())
    #expect(old.changes(from: old).isEmpty)
    let reloaded = MeshSnapshot(document: old).applying(new.changes(from: old)).snapshot
    #expect(Answers(reloaded) == Answers(MeshSnapshot(document: new)))
  }

  // MARK: Single effects

  @Test("a workload that comes before its service is an endpoint once the service is there")
  func staged() {
    let pod = Workload.Record.pod("cart", "10.0.0.1").serving("shop/cart.local")
    let service = Service.Record.named("shop/cart.local", "/10.9.0.1")
    for changes in [
      [MeshChange.upsertWorkload(pod), .upsertService(service)], [.upsertService(service), .upsertWorkload(pod)],
    ] {
      let snapshot = MeshSnapshot(settings: .init()).applying(changes).snapshot
      #expect(snapshot.service(service.key).map { snapshot.endpoints(of: $0).map(\.workload.uid) } == [pod.uid])
    }
  }

  @Test("a workload that leaves a service is no endpoint of it any more")
  func leaving() {
    let pod = Workload.Record.pod("cart", "10.0.0.1")
    let services = [Service.Record.named("shop/a.local"), .named("shop/b.local")]
    var snapshot = MeshSnapshot(workloads: [pod.serving("shop/a.local")], services: services)
    snapshot = snapshot.applying([.upsertWorkload(pod.serving("shop/b.local"))]).snapshot
    #expect(services.map { snapshot.endpoints(of: Service($0)).count } == [0, 1])
    snapshot = snapshot.applying([.removeWorkload(uid: pod.uid)]).snapshot
    #expect(services.map { snapshot.endpoints(of: Service($0)).count } == [0, 0])
    #expect(snapshot.endpoints.isEmpty)
  }

  @Test("a service removed and sent again has the endpoints that still list it")
  func recreated() {
    let pod = Workload.Record.pod("cart", "10.0.0.1").serving("shop/a.local")
    let service = Service.Record.named("shop/a.local")
    var snapshot = MeshSnapshot(workloads: [pod], services: [service])
    snapshot = snapshot.applying([.removeService(service.key)]).snapshot
    #expect(snapshot.serviceCount == 0)
    snapshot = snapshot.applying([.upsertService(service)]).snapshot
    #expect(snapshot.endpoints(of: Service(service)).count == 1)
  }

  @Test("the same again is no change")
  func idempotent() {
    let pod = Workload.Record.pod("cart", "10.0.0.1")
    let policy = AuthorizationPolicy.make(rules: [[]])
    let service = Service.Record.named("shop/a.local")
    let snapshot = MeshSnapshot(workloads: [pod], services: [service], policies: [policy])
    let (_, delta) = snapshot.applying([.upsertWorkload(pod), .upsertService(service), .upsertPolicy(policy)])
    #expect(delta.isEmpty && delta.addedLocalIdentities.isEmpty)
  }

  @Test(
    "a removed name is a workload, else a service, else nothing",
    arguments: [
      ("c//Pod/shop/cart", 0, 1, 0), ("shop/a.local", 1, 0, 0), ("c//Pod/shop/gone", 1, 1, 1),
      ("shop/b.local", 1, 1, 1),
      ("nonsense", 1, 1, 1), ("", 1, 1, 1),
    ])
  func removal(_ name: String, _ workloads: Int, _ services: Int, _ unknown: Int) {
    let snapshot = MeshSnapshot(workloads: [.pod("cart", "10.0.0.1")], services: [.named("shop/a.local")])
    let (next, delta) = snapshot.applying([.removeAddress(name: name)])
    #expect(next.workloadCount == workloads && next.serviceCount == services)
    #expect(delta.unknownRemovals.count == unknown)
  }

  @Test("an identity is forgotten with the last local workload that has it")
  func identities() {
    let pods = ["a", "b"].map { name in
      Workload.Record.pod(name, "10.0.0.1") {
        $0.serviceAccount = "shared"
        $0.node = "here"
      }
    }
    let shared = identity("cluster.local/ns/shop/sa/shared")
    let empty = MeshSnapshot(settings: MeshSettings(localNode: "here"))
    let (both, added) = empty.applying(pods.map(MeshChange.upsertWorkload))
    #expect(added.addedLocalIdentities == [shared])
    let (one, first) = both.applying([.removeWorkload(uid: pods[0].uid)])
    #expect(first.removedLocalIdentities.isEmpty)
    let (_, last) = one.applying([.removeWorkload(uid: pods[1].uid)])
    #expect(last.removedLocalIdentities == [shared])
  }

  @Test("a workload whose list of policies changed is to be evaluated again, others are not")
  func recheck() {
    let snapshot = MeshSnapshot(workloads: [.pod("cart", "10.0.0.1"), .pod("web", "10.0.0.2")])
    let changed = Workload.Record.pod("cart", "10.0.0.1") { $0.authorizationPolicies = ["shop/p"] }
    let (_, attached) = snapshot.applying([.upsertWorkload(changed)])
    #expect(attached.affectsPolicy(ofWorkload: changed.uid))
    #expect(!attached.affectsPolicy(ofWorkload: "c//Pod/shop/web"))
    let (_, everywhere) = snapshot.applying([.upsertPolicy(.make(rules: []))])
    #expect(everywhere.affectsPolicy(ofWorkload: "c//Pod/shop/web"))
  }

  @Test("empty identity fields get the wire's defaults")
  func defaults() {
    var record = Workload.Record(uid: "u")
    (record.trustDomain, record.serviceAccount, record.clusterID) = ("", "", "")
    let workload = MeshSnapshot(workloads: [record]).workload(uid: "u")
    #expect(workload?.identity == identity("cluster.local/ns//sa/default"))
    #expect(workload?.clusterID == "Kubernetes")
  }
}
