import Testing
import Vocabulary

@testable import Mesh

/// services.md §1.1.
@Suite struct LookupTests {
  static func record(_ uid: String, hbone: Bool, change: (inout Workload.Record) -> Void = { _ in }) -> Workload.Record
  {
    var record = Workload.Record(uid: uid)
    record.addresses = [ip("10.0.0.1")]
    record.tunnelProtocol = hbone ? .hbone : .none
    change(&record)
    return record
  }

  @Test("of several workloads at one address the best kind wins, in whatever order they came")
  func ranking() {
    let best = [
      Self.record("c//Pod/a/tunnel", hbone: true), Self.record("c//Pod/a/plain", hbone: false),
      Self.record("c/entry/tunnel", hbone: true), Self.record("c/entry/plain", hbone: false),
    ]
    for skipped in 0..<best.count {
      for order in [Array(best.dropFirst(skipped)), best.dropFirst(skipped).reversed()] {
        #expect(MeshSnapshot(workloads: order).workload(at: virtual("/10.0.0.1"))?.uid == best[skipped].uid)
      }
    }
  }

  @Test("of equals the latest wins, and removing one leaves the other")
  func ties() {
    let old = Self.record("c//Pod/a/old", hbone: true)
    let new = Self.record("c//Pod/a/new", hbone: true)
    let both = MeshSnapshot(workloads: [old, new])
    #expect(both.workload(at: virtual("/10.0.0.1"))?.uid == new.uid)
    let left = both.applying([.removeWorkload(uid: new.uid)]).snapshot
    #expect(left.workload(at: virtual("/10.0.0.1"))?.uid == old.uid)
    let none = left.applying([.removeWorkload(uid: old.uid)]).snapshot
    #expect(none.workload(at: virtual("/10.0.0.1")) == nil)
  }

  @Test("only workloads of this node are local, found by all three names and never by address")
  func local() {
    let here = Workload.Record.pod("cart", "10.0.0.1") { $0.node = "here" }
    let there = Workload.Record.pod("web", "10.0.0.2") { $0.node = "there" }
    let snapshot = MeshSnapshot(MeshSettings(localNode: "here"), workloads: [here, there])
    #expect(snapshot.localWorkload(namespace: "shop", name: "cart", serviceAccount: "cart")?.uid == here.uid)
    #expect(snapshot.localWorkload(namespace: "shop", name: "cart", serviceAccount: "web") == nil)
    #expect(snapshot.localWorkload(namespace: "other", name: "cart", serviceAccount: "cart") == nil)
    #expect(snapshot.localWorkload(namespace: "shop", name: "web", serviceAccount: "web") == nil)
    let anywhere = MeshSnapshot(workloads: [here, there])
    #expect(anywhere.localWorkload(namespace: "shop", name: "web", serviceAccount: "web")?.uid == there.uid)
  }

  static func service(
    _ namespace: String, canonical: Bool = false, visibility: Service.Visibility = .everywhere, range: String? = nil
  ) -> Service.Record {
    .named("\(namespace)/api.local") {
      $0.isCanonical = canonical
      $0.visibility = visibility
      if let range {
        $0.prefixes = [NetworkPrefix(network: "", prefix: prefix(range))]
      } else {
        $0.addresses = [virtual("/10.9.0.1")]
      }
    }
  }

  struct Row: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var services: [Service.Record]
    var client: String?
    var best: String?
  }

  @Test(
    "of several services with a name or address the client's own comes first, then a canonical one",
    arguments: [
      Row(
        testDescription: "own namespace", services: [service("a", canonical: true), service("b")], client: "b",
        best: "b"),
      Row(
        testDescription: "canonical", services: [service("a"), service("b", canonical: true)], client: "c", best: "b"),
      Row(testDescription: "first by namespace", services: [service("b"), service("a")], client: "c", best: "a"),
      Row(
        testDescription: "hidden from others", services: [service("a", visibility: .namespace), service("b")],
        client: "c", best: "b"),
      Row(
        testDescription: "hidden even if canonical", services: [service("a", canonical: true, visibility: .namespace)],
        client: "c", best: nil),
      Row(
        testDescription: "hidden but one's own", services: [service("a", visibility: .namespace)], client: "a",
        best: "a"),
      Row(
        testDescription: "visible to nobody in particular", services: [service("a", visibility: .namespace)],
        client: nil, best: "a"),
    ])
  func ranking(_ row: Row) {
    let snapshot = MeshSnapshot(services: row.services)
    #expect(snapshot.service(hostname: "api.local", clientNamespace: row.client)?.namespace == row.best)
    #expect(snapshot.service(at: virtual("/10.9.0.1"), clientNamespace: row.client)?.namespace == row.best)
  }

  @Test("the case of a host name does not matter, and the service keeps the one that it came with")
  func hostnameCase() {
    let mixed = MeshChange.upsertService(Service.Record(namespace: "a", hostname: "Api.Example.COM"))
    var snapshot = MeshSnapshot().applying([mixed]).snapshot
    for name in ["api.example.com", "Api.Example.COM", "API.EXAMPLE.COM"] {
      #expect(snapshot.service(hostname: name, clientNamespace: nil)?.hostname == "Api.Example.COM")
      #expect(snapshot.services(hostname: name).count == 1)
    }
    snapshot = snapshot.applying([.removeAddress(name: "a/Api.Example.COM")]).snapshot
    #expect(snapshot.services(hostname: "api.example.com").isEmpty)
  }

  @Test(
    "ranges are asked after exact addresses, and the client's own beats a longer prefix",
    arguments: [
      Row(
        testDescription: "longest prefix",
        services: [service("a", range: "10.0.0.0/8"), service("b", range: "10.9.0.0/16")],
        client: "c", best: "b"),
      Row(
        testDescription: "own over longest",
        services: [service("a", range: "10.0.0.0/8"), service("b", range: "10.9.0.0/16")], client: "a", best: "a"),
      Row(
        testDescription: "canonical among equals",
        services: [service("a", range: "10.0.0.0/8"), service("b", canonical: true, range: "10.0.0.0/8")], client: "c",
        best: "b"),
      Row(
        testDescription: "length before canonical",
        services: [service("a", canonical: true, range: "10.0.0.0/8"), service("b", range: "10.9.0.0/16")], client: "c",
        best: "b"),
      Row(
        testDescription: "exact first", services: [service("a", range: "10.9.0.1/31"), service("b")], client: "a",
        best: "b"),
      Row(
        testDescription: "range when the exact one is hidden",
        services: [service("a", range: "0.0.0.0/0"), service("b", visibility: .namespace)], client: "c", best: "a"),
      Row(
        testDescription: "hidden range skipped",
        services: [service("a", range: "0.0.0.0/0"), service("b", visibility: .namespace, range: "10.9.0.0/16")],
        client: "c", best: "a"),
      Row(testDescription: "other family", services: [service("a", range: "::/0")], client: "c", best: nil),
      Row(testDescription: "outside", services: [service("a", range: "10.9.1.0/24")], client: "c", best: nil),
    ])
  func ranges(_ row: Row) {
    let snapshot = MeshSnapshot(services: row.services)
    #expect(snapshot.service(at: virtual("/10.9.0.1"), clientNamespace: row.client)?.namespace == row.best)
    #expect(snapshot.service(at: virtual("other/10.9.0.1"), clientNamespace: row.client) == nil)
  }

  @Test("a range that changed or went leaves nothing behind")
  func rangeChange() {
    let old = Self.service("a", range: "10.9.0.0/16")
    let new = Self.service("a", range: "10.0.0.0/8")
    var snapshot = MeshSnapshot(services: [old])
    snapshot = snapshot.applying([.upsertService(new)]).snapshot
    #expect(snapshot.service(at: virtual("/10.9.0.1"), clientNamespace: nil)?.record == new)
    snapshot = snapshot.applying([.removeService(new.key)]).snapshot
    #expect(snapshot.service(at: virtual("/10.9.0.1"), clientNamespace: nil) == nil)
    #expect(snapshot.servicesByPrefix.isEmpty)
  }

  @Test("endpoints of a range's service are never stale")
  func rangeEndpoints() {
    let service = Self.service("a", range: "10.0.0.0/8")
    var snapshot = MeshSnapshot(services: [service])
    for n in 1...5 {
      let pod = Workload.Record.pod("p", "172.16.0.\(n)").serving("a/api.local")
      snapshot = snapshot.applying([.upsertWorkload(pod)]).snapshot
      let found = snapshot.service(at: virtual("/10.9.0.1"), clientNamespace: nil)
      #expect(found.map { snapshot.endpoints(of: $0).flatMap(\.workload.addresses) } == [ip("172.16.0.\(n)")])
    }
  }

  @Test("a connection is counted for the service the client named, else for the first with its port")
  func attribution() {
    let pod = Workload.Record.pod("cart", "10.0.0.1").serving("shop/a.local", [80: 8080]).serving("shop/b.local")
    let snapshot = MeshSnapshot(
      workloads: [pod], services: [.named("shop/a.local", ports: [80: 80]), .named("shop/b.local", ports: [81: 9090])])
    let local = snapshot.pod("cart")
    func service(_ host: String?, _ port: UInt16) -> String? {
      snapshot.attributedService(of: local, forwardedHost: host, port: port)?.hostname
    }
    #expect(service("b.local", 8080) == "b.local")
    #expect(service(nil, 8080) == "a.local")
    #expect(service("unknown.local", 9090) == "b.local")
    #expect(service(nil, 1) == nil)
  }
}
