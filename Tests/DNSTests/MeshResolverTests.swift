import Mesh
import Testing
import Vocabulary

@testable import DNS

@Suite("What the mesh answers")
struct MeshResolverTests {
  private func resolve(
    _ name: String, _ type: RecordType = .a, recordClass: UInt16 = 1, resolver: MeshResolver = MeshResolver()
  ) throws -> Resolution {
    let mesh = try ExampleMesh.make()
    let client = try #require(mesh.workload(uid: "Kubernetes//Pod/ns1/client"))
    var random = SeededGenerator(seed: 1)
    return resolver.resolve(
      Question(try #require(DomainName(name)), type, recordClass: recordClass), for: client, in: mesh, using: &random)
  }

  private func answer(_ name: String, _ type: RecordType = .a) throws -> [String]? {
    guard case .answer(let answer, _) = try resolve(name, type) else { return nil }
    return answer.addresses.map(\.description).sorted()
  }

  @Test(
    "to names of services, whole, short, in any case and by their wildcard",
    arguments: [
      ("www.google.com", nil, "10.9.0.1"),
      ("WWW.Google.COM.", nil, "10.9.0.1"),
      ("www.google.com.ns1.svc.cluster.local", "www.google.com", "10.9.0.1"),
      ("www.google.com.svc.cluster.local", "www.google.com", "10.9.0.1"),
      ("www.google.com.cluster.local", "www.google.com", "10.9.0.1"),
      ("productpage", nil, "10.9.0.2"),
      ("productpage.ns1", nil, "10.9.0.2"),
      ("productpage.ns1.svc", nil, "10.9.0.2"),
      ("productpage.ns1.svc.cluster.local", nil, "10.9.0.2"),
      ("productpage.ns1.ns1.svc.cluster.local", "productpage.ns1", "10.9.0.2"),
      ("productpage.ns1.svc.ns1.svc.cluster.local", "productpage.ns1.svc", "10.9.0.2"),
      ("example.ns2", nil, "10.9.0.3"),
      ("example.ns2.svc", nil, "10.9.0.3"),
      ("foo.wildcard", nil, "10.9.0.4"),
      ("a.c.wildcard", nil, "10.9.0.4"),
      ("a.b.wildcard", nil, "10.9.0.5"),
      ("x.a.b.wildcard", nil, "10.9.0.5"),
      ("foo.wildcard.ns1.svc.cluster.local", nil, "10.9.0.4"),
      ("x.svc.mesh.corp.ns1.svc.cluster.local", nil, "10.9.0.6"),
      ("twice", nil, "10.9.0.12"),
      ("mixed.example.com", nil, "10.9.4.1"),
      ("MIXED.example.com", nil, "10.9.4.1"),
    ] as [(String, String?, String)])
  func answers(_ name: String, _ alias: String?, _ address: String) throws {
    let expected = Answer(alias: alias.flatMap { DomainName($0) }, addresses: [try #require(IPAddress(address))])
    #expect(try resolve(name) == .answer(expected, .success))
  }

  @Test(
    "nothing to names that it does not know, and the question is forwarded",
    arguments: [
      "example", "www.example.com", "wildcard", "hidden.ns2.svc.cluster.local", "hidden.ns2", "ranges.example.com",
      "h1.headless.ns1.svc.cluster.local", "ns1.svc.cluster.local", "cluster.local", "com",
      "productpage.ns1.svc.cluster.local.example.com",
    ])
  func forwards(_ name: String) throws {
    #expect(try resolve(name) == .forward)
  }

  @Test("nothing to other types and classes", arguments: [2, 5, 6, 12, 15, 16, 33, 65, 255] as [UInt16])
  func types(_ type: UInt16) throws {
    #expect(try resolve("productpage", RecordType(rawValue: type)) == .forward)
    #expect(try resolve("productpage", .a, recordClass: 3) == .forward)
  }

  @Test("addresses of the family asked for, and none is no error")
  func families() throws {
    #expect(try answer("productpage", .aaaa) == ["fd00::2"])
    let none = Answer(addresses: [])
    #expect(try resolve("www.google.com", .aaaa) == .answer(none, .noRecords))
    #expect(try resolve("four", .aaaa) == .answer(none, .unsupportedType))
    #expect(try resolve("six", .a) == .answer(none, .unsupportedType))
    #expect(try answer("four") == ["10.9.0.8"])
    #expect(try answer("six", .aaaa) == ["fd00::10"])
    let withoutIPv6 = MeshResolver(answersIPv6: false)
    #expect(try resolve("productpage", .aaaa, resolver: withoutIPv6) == .answer(none, .unsupportedType))
    #expect(try resolve("example", .aaaa, resolver: withoutIPv6) == .forward)
  }

  @Test("for a headless service one address of each healthy endpoint that can be reached")
  func headless() throws {
    #expect(try answer("headless") == ["10.0.1.1", "10.0.1.3"])
    #expect(try answer("headless", .aaaa) == ["fd00:1::1"])
    #expect(try answer("nobody") == [])
    #expect(try answer("remote") == ["10.0.1.6"], "there are no nearer ones")
  }

  @Test("for a headless service with very many endpoints so many of them as fit, others each time")
  func manyEndpoints() throws {
    let domain = "svc.cluster.local"
    var changes = [
      ExampleMesh.workload("client", "ns1", ["10.0.0.9"]), ExampleMesh.service("ns1", "many.ns1.\(domain)", []),
    ]
    for index in 0..<2000 {
      changes.append(
        ExampleMesh.workload(
          "e\(index)", "ns1", ["10.\(index % 3 == 0 ? 9 : 1).\(index / 250).\(index % 250)"],
          health: index % 3 == 0 ? .unhealthy : .healthy, services: ["many.ns1.\(domain)"]))
    }
    let mesh = MeshSnapshot().applying(changes).snapshot
    let client = try #require(mesh.workload(uid: "Kubernetes//Pod/ns1/client"))
    var random = SeededGenerator(seed: 1)
    func ask(_ limit: Int, _ type: RecordType = .a) throws -> [IPAddress] {
      let resolution = MeshResolver().resolve(
        Question(try #require(DomainName("many")), type), for: client, in: mesh, atMost: limit, using: &random)
      guard case .answer(let answer, _) = resolution else { return [] }
      return answer.addresses
    }
    let (first, second) = (try ask(32), try ask(32))
    #expect(first.count == 32 && second.count == 32 && Set(first) != Set(second))
    #expect(Set(first).count == 32 && first.allSatisfy { $0.description.hasPrefix("10.1.") }, "healthy ones only")
    #expect(try ask(4000).count == 1333, "all, where they fit")
    #expect(try ask(32, .aaaa).isEmpty)
    var seen: Set<IPAddress> = []
    for _ in 0..<400 { seen.formUnion(try ask(32)) }
    #expect(seen.count > 1300, "none is left out for ever")
  }

  @Test("no addresses of other networks")
  func networks() throws {
    #expect(try answer("far") == [])
  }

  @Test("of several services the client's own, the canonical one, the preferred one, the first")
  func ranking() throws {
    #expect(try answer("own.example.com") == ["10.9.2.1"])
    #expect(try answer("shared.example.com") == ["10.9.1.3"])
    #expect(try answer("plain.example.com") == ["10.9.3.4"])
    let preferring = MeshResolver(preferredNamespace: "ns5")
    #expect(
      try resolve("plain.example.com", resolver: preferring)
        == .answer(Answer(addresses: [.v4(0x0a09_0305)]), .success))
  }

  @Test("under the cluster's own domain")
  func clusterDomain() throws {
    let mesh = MeshSnapshot().applying([
      ExampleMesh.workload("client", "ns1", []),
      ExampleMesh.service("ns1", "web.ns1.svc.example.org", [try ExampleMesh.address("10.9.0.1")]),
    ]).snapshot
    let client = try #require(mesh.workload(uid: "Kubernetes//Pod/ns1/client"))
    var random = SeededGenerator(seed: 1)
    let resolver = MeshResolver(clusterDomain: "Example.ORG")
    for name in ["web", "web.ns1.svc", "web.ns1.svc.example.org"] {
      let resolution = resolver.resolve(
        Question(try #require(DomainName(name)), .a), for: client, in: mesh, using: &random)
      #expect(resolution == .answer(Answer(addresses: [.v4(0x0a09_0001)]), .success), "\(name)")
    }
  }

  @Test("in an order that changes")
  func order() throws {
    let addresses = try (1...8).map { try ExampleMesh.address("10.9.4.\($0)") }
    let mesh = MeshSnapshot().applying([
      ExampleMesh.workload("client", "ns1", []), ExampleMesh.service("ns1", "many.example.com", addresses),
    ]).snapshot
    let client = try #require(mesh.workload(uid: "Kubernetes//Pod/ns1/client"))
    var random = SeededGenerator(seed: 1)
    let question = Question(try #require(DomainName("many.example.com")), .a)
    let firsts = (0..<50).compactMap { _ -> IPAddress? in
      guard case .answer(let answer, _) = MeshResolver().resolve(question, for: client, in: mesh, using: &random) else {
        return nil
      }
      return answer.addresses.first
    }
    #expect(firsts.count == 50)
    #expect(Set(firsts).count > 3)
  }
}

@Suite("The names that a name can mean")
struct NameExpansionTests {
  private let expansion = NameExpansion(namespace: "ns", clusterDomain: "d.l")

  @Test(
    "are tried in order",
    arguments: [
      ("x", ["x", "x.ns.svc.d.l"]),
      ("x.y", ["x.y", "x.y.svc.d.l", "x.y.ns.svc.d.l"]),
      ("x.y.z", ["x.y.z", "x.y.z.svc.d.l"]),
      ("x.y.svc", ["x.y.svc", "x.y.svc.d.l", "x.y.svc.svc.d.l"]),
      ("w.x.y.z", ["w.x.y.z"]),
      ("w.x.y.svc", ["w.x.y.svc", "w.x.y.svc.d.l"]),
      (
        "x.ns.svc.d.l",
        ["x.ns.svc.d.l", "x", "x.ns", "x.ns.ns.svc.d.l", "x.ns.svc", "x.ns.svc.svc.d.l"]
      ),
      ("d.l", ["d.l", "d.l.svc.d.l", "d.l.ns.svc.d.l"]),
    ])
  func aliases(_ name: String, _ expected: [String]) {
    #expect(expansion.aliases(of: name).map(\.hostname) == expected)
  }

  @Test(
    "by wildcard, the nearest first, never all",
    arguments: [("a.b.c", ["*.b.c", "*.c"]), ("a", []), ("a.b", ["*.b"])] as [(String, [String])])
  func wildcards(_ name: String, _ expected: [String]) {
    #expect(Array(NameExpansion.wildcards(of: name)) == expected)
  }
}
