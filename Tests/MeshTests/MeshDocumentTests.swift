import Testing
import Vocabulary

@testable import Mesh

/// xds.md §7.
@Suite struct MeshDocumentTests {
  static let example = """
    workloads:
    - uid: west//Pod/shop/cart-7
      name: cart-7
      namespace: shop
      serviceAccount: cart
      trustDomain: cluster.local
      clusterId: west
      network: net-a
      node: worker-1
      workloadIps: ["10.9.0.7", "fd00::7"]
      protocol: HBONE
      authorizationPolicies: ["shop/only-web"]
      services:
        "shop/cart.shop.svc.cluster.local": {80: 8080}
    services:
    - name: cart
      namespace: shop
      hostname: cart.shop.svc.cluster.local
      vips: ["net-a/10.80.0.20"]
      ports: {80: 8080}
      canonical: true
      loadBalancer:
        mode: Failover
        routingPreferences: [Network, Region, Zone]
        healthPolicy: OnlyHealthy
    policies:
    - name: only-web
      namespace: shop
      scope: WorkloadSelector
      action: Allow
      dryRun: false
      rules:
      - - - principals: [!Exact "cluster.local/ns/shop/sa/web"]
        - - destinationPorts: [8080]
    """

  static func parse(_ text: String) throws(MeshFileError) -> MeshDocument {
    try MeshDocument.parse(yaml: text, source: "mesh.yaml")
  }

  /// The problems of a document that must not load.
  static func problems(_ text: String, _ location: SourceLocation = #_sourceLocation) -> [MeshFileProblem] {
    do {
      _ = try parse(text)
      Issue.record("the document loaded", sourceLocation: location)
    } catch {
      guard case .invalid(_, let problems, _) = error else {
        Issue.record("\(error)", sourceLocation: location)
        return []
      }
      return problems
    }
    return []
  }

  @Test("the example loads, and every field is where it belongs")
  func wholeExample() throws {
    let document = try Self.parse(Self.example)
    let workload = try #require(document.workloads.first)
    #expect(workload.uid == "west//Pod/shop/cart-7" && workload.name == "cart-7" && workload.namespace == "shop")
    #expect(workload.addresses == [ip("10.9.0.7"), ip("fd00::7")] && workload.network == "net-a")
    #expect(workload.tunnelProtocol == .hbone && workload.node == "worker-1" && workload.clusterID == "west")
    #expect(workload.authorizationPolicies == ["shop/only-web"])
    #expect(workload.services == [serviceKey("shop/cart.shop.svc.cluster.local"): [80: 8080]])
    let service = try #require(document.services.first)
    #expect(service.name == "cart" && service.addresses == [virtual("net-a/10.80.0.20")] && service.isCanonical)
    #expect(
      service.loadBalancing
        == LoadBalancing(preferences: [.network, .region, .zone], mode: .failover, healthPolicy: .onlyHealthy))
    #expect(
      document.policies == [
        .make(
          "only-web", scope: .workloadSelector,
          rules: [[[.principal(.exact("cluster.local/ns/shop/sa/web"))], [.port(8080)]]])
      ])
  }

  @Test("a snapshot of the example routes and judges")
  func exampleSnapshot() throws {
    let snapshot = MeshSnapshot(document: try Self.parse(Self.example), settings: MeshSettings(network: "net-a"))
    let cart = try #require(snapshot.workload(uid: "west//Pod/shop/cart-7"))
    var connection = ConnectionAttributes(
      sourceIP: ip("10.9.0.8"), destination: socket("10.9.0.7:8080"), identity: identity("cluster.local/ns/shop/sa/web")
    )
    #expect(snapshot.evaluate(connection, destination: cart).isAllowed)
    connection.identity = nil
    #expect(snapshot.evaluate(connection, destination: cart).rejection == .notAllowed)
    #expect(
      snapshot.service(hostname: "cart.shop.svc.cluster.local", clientNamespace: "shop").map {
        snapshot.endpoints(of: $0).count
      } == 1)
  }

  @Test("identity defaults apply, and a uid follows from the name")
  func defaults() throws {
    let document = try Self.parse("workloads: [{name: a, namespace: n, workloadIps: [], services: {}}]")
    let workload = try #require(document.workloads.first)
    #expect(Workload(workload).identity == identity("cluster.local/ns/n/sa/default"))
    #expect(workload.clusterID == "Kubernetes" && workload.uid == "Kubernetes//Pod/n/a" && workload.capacity == 1)
  }

  @Test(
    "documents without anything in them are empty",
    arguments: ["", "\n", "# only a comment & more", "{}", "null", "---\n", "workloads: []"])
  func empty(_ text: String) throws {
    #expect(try Self.parse(text) == MeshDocument())
  }

  @Test("JSON is accepted, quoted port keys and all")
  func json() throws {
    let document = try Self.parse(
      #"{"workloads":[{"uid":"u","namespace":"n","workloadIps":["1.2.3.4"],"services":{"n/h":{"80":8080}},"applicationTunnel":{"protocol":"PROXY","port":null},"waypoint":null}]}"#
    )
    let workload = try #require(document.workloads.first)
    #expect(workload.services == [serviceKey("n/h"): [80: 8080]])
    #expect(workload.applicationTunnel == .init(.proxy) && workload.waypoint == nil)
  }

  @Test("every key of a workload and a service is read")
  func everyKey() throws {
    let document = try Self.parse(
      """
      workloads:
      - uid: u
        namespace: n
        workloadIps: [10.0.0.1]
        services: {n/h: }
        hostname: ext.example.com
        workloadName: w
        workloadType: cronjob
        canonicalName: c
        canonicalRevision: 1
        networkMode: HostNetwork
        status: Unhealthy
        waypoint: {destination: net/10.0.0.2, hboneMtlsPort: 15008}
        networkGateway: {destination: n/gw.local, hboneMtlsPort: 15009}
        nativeTunnel: true
        applicationTunnel: {protocol: NONE, port: 15088}
        locality: {region: r, zone: z, subzone: s}
        capacity: 0
      services:
      - name: h
        namespace: n
        hostname: h
        vips: [/10.9.0.1]
        cidrVips: [{network: "", cidr: 10.10.0.0/16}, {network: x, cidr: 10.9.0.9/32}]
        ports: {80: 0}
        endpoints: {u: {workloadUid: u, port: {80: 8081}, status: Unhealthy}}
        subjectAltNames: ["spiffe://td/ns/a/sa/b"]
        waypoint: {destination: n/wp.local, hboneMtlsPort: 1}
        weightedWaypoints: [{destination: {destination: n/wp.local, hboneMtlsPort: 2}, weight: 7}]
        ipFamilies: IPv6
        visibility: Namespace
      """)
    let workload = try #require(document.workloads.first)
    #expect(workload.hostname == "ext.example.com" && workload.workloadName == "w" && workload.kind == .cronjob)
    #expect(workload.canonicalName == "c" && workload.canonicalRevision == "1" && workload.capacity == 0)
    #expect(workload.networkMode == .hostNetwork && workload.health == .unhealthy && workload.hasNativeTunnel)
    #expect(workload.waypoint == .address("net/10.0.0.2") && workload.networkGateway == .host("n/gw.local", 15009))
    #expect(workload.applicationTunnel == .init(.none, port: 15088))
    #expect(workload.locality == .init(region: "r", zone: "z", subzone: "s"))
    #expect(workload.services == [serviceKey("n/h"): [80: 8081]])
    let service = try #require(document.services.first)
    #expect(service.addresses == [virtual("/10.9.0.1"), virtual("x/10.9.0.9")])
    #expect(service.prefixes == [NetworkPrefix(network: "", prefix: prefix("10.10.0.0/16"))])
    #expect(service.subjectAltNames == ["spiffe://td/ns/a/sa/b"] && service.waypoint == .host("n/wp.local", 1))
    #expect(service.weightedWaypoints == [WeightedWaypoint(.host("n/wp.local", 2), weight: 7)])
    #expect(service.ipFamilies == .v6Only && service.visibility == .namespace && service.ports == [80: 0])
  }

  static func policy(_ match: String) -> String {
    "policies: [{name: p, namespace: n, scope: Global, action: Deny, dryRun: true, rules: [[[\(match)]]]}]"
  }

  @Test(
    "string matches are written with a tag, as a map, or as policies write them",
    arguments: [
      ("!Exact a", AuthorizationPolicy.StringMatch.exact("a")), ("{Exact: a}", .exact("a")),
      ("{exact: a}", .exact("a")),
      ("a", .exact("a")), ("!Prefix a", .prefix("a")), ("{Prefix: a}", .prefix("a")), ("a*", .prefix("a")),
      ("!Suffix a", .suffix("a")), ("{suffix: a}", .suffix("a")), ("\"*a\"", .suffix("a")), ("!Presence []", .presence),
      ("{Presence: []}", .presence), ("{presence: }", .presence), ("!Presence ", .presence), ("\"*\"", .presence),
      ("!Exact \"\"", .exact("")), ("!Exact \"*\"", .exact("*")), ("!Prefix \"\"", .prefix("")),
    ])
  func stringMatch(_ text: String, _ match: AuthorizationPolicy.StringMatch) throws {
    let document = try Self.parse(Self.policy("{namespaces: [\(text)]}"))
    #expect(document.policies.first?.rules == [.init([.init([.namespace(match)])])])
  }

  @Test("every kind of condition is read, both ways")
  func conditions() throws {
    let document = try Self.parse(
      Self.policy(
        """
        {namespaces: [a], notNamespaces: [b], principals: [c], notPrincipals: ["*"], serviceAccounts: [{namespace: n,
        serviceAccount: s}], notServiceAccounts: [{namespace: m, serviceAccount: t}], sourceIps: [10.0.0.0/8],
        notSourceIps: ["fd00::/8"], destinationIps: [10.0.0.7/32], notDestinationIps: [0.0.0.0/0],
        destinationPorts: [80], notDestinationPorts: [81]}
        """))
    let match = try #require(document.policies.first?.rules.first?.clauses.first?.matches.first)
    #expect(match.namespaces == .init([.exact("a")], excluding: [.exact("b")]))
    #expect(match.principals == .init([.exact("c")], excluding: [.presence]))
    #expect(
      match.serviceAccounts
        == .init([.init(namespace: "n", name: "s")], excluding: [.init(namespace: "m", name: "t")]))
    #expect(match.sourceIPs == .init([prefix("10.0.0.0/8")], excluding: [prefix("fd00::/8")]))
    #expect(match.destinationIPs == .init([prefix("10.0.0.7/32")], excluding: [prefix("0.0.0.0/0")]))
    #expect(match.destinationPorts == .init([80], excluding: [81]))
    #expect(document.policies.first?.isDryRun == true && document.policies.first?.action == .deny)
  }

  static let workload = "uid: u, namespace: n, workloadIps: [], services: {}"
  static let service = "name: s, namespace: n, hostname: h, vips: [], ports: {}"

  @Test(
    "what is wrong is named with its path and its reason",
    arguments: [
      ("[]", "document", "expected a map"), ("text", "document", "expected a map"),
      ("workload: []", "workload", "unknown key, expected one of policies, services, workloads"),
      ("workloads: {}", "workloads", "expected a list"), ("workloads: [1]", "workloads[0]", "expected a map"),
      ("workloads: [{}]", "workloads[0]", "namespace is required"),
      ("workloads: [{\(workload), extra: 1}]", "workloads[0].extra", "unknown key"),
      ("workloads: [{\(workload), protocol: hbone}]", "workloads[0].protocol", "\"hbone\" is not one of TCP, HBONE"),
      ("workloads: [{\(workload), status: healthy}]", "workloads[0].status", "not one of Healthy, Unhealthy"),
      ("workloads: [{\(workload), capacity: -1}]", "workloads[0].capacity", "an integer from 0 to 4294967295"),
      ("workloads: [{\(workload), capacity: 4294967296}]", "workloads[0].capacity", "an integer from 0"),
      ("workloads: [{\(workload), capacity: 1.5}]", "workloads[0].capacity", "found \"1.5\""),
      ("workloads: [{\(workload), capacity: 010}]", "workloads[0].capacity", "found \"010\""),
      ("workloads: [{\(workload), capacity: \"1\"}]", "workloads[0].capacity", "expected an integer"),
      ("workloads: [{\(workload), nativeTunnel: yes}]", "workloads[0].nativeTunnel", "expected true or false"),
      ("workloads: [{\(workload), trustDomain: a/ns/b}]", "workloads[0].trustDomain", "without a slash"),
      ("workloads: [{\(workload), serviceAccount: \"a b\"}]", "workloads[0].serviceAccount", "visible ASCII"),
      ("workloads: [{\(workload), name: \"a\\0b\"}]", "workloads[0].name", "control characters"),
      ("workloads: [{\(workload), name: [a]}]", "workloads[0].name", "expected text"),
      (
        "workloads: [{\(workload), authorizationPolicies: [p]}]", "workloads[0].authorizationPolicies[0]",
        "namespace/name"
      ),
      ("workloads: [{\(workload), locality: {region: r}}]", "workloads[0].locality", "zone is required"),
      (
        "workloads: [{\(workload), waypoint: {destination: x, hboneMtlsPort: 1}}]", "workloads[0].waypoint.destination",
        "expected network/ip or namespace/hostname, found \"x\""
      ),
      (
        "workloads: [{\(workload), waypoint: {destination: a/b, hboneMtlsPort: 0}}]",
        "workloads[0].waypoint.hboneMtlsPort", "from 1 to 65535"
      ),
      (
        "workloads: [{uid: u, namespace: n, workloadIps: [1.2.3], services: {}}]", "workloads[0].workloadIps[0]",
        "expected an IP address, found \"1.2.3\""
      ),
      (
        "workloads: [{uid: u, namespace: n, workloadIps: [], services: {h: {}}}]", "workloads[0].services.h",
        "expected namespace/hostname"
      ),
      (
        "workloads: [{uid: u, namespace: n, workloadIps: [], services: {n/h: {0: 1}}}]", "workloads[0].services.n/h.0",
        "a port from 1 to 65535"
      ),
      (
        "workloads: [{uid: u, namespace: n, workloadIps: [], services: {n/h: {80: 65536}}}]",
        "workloads[0].services.n/h.80", "an integer from 0 to 65535"
      ),
      ("services: [{\(service), vips2: []}]", "services[0].vips2", "unknown key"),
      (
        "services: [{name: s, namespace: n, hostname: h, ports: {}, vips: [10.0.0.1]}]", "services[0].vips[0]",
        "network/ip"
      ),
      (
        "services: [{\(service), cidrVips: [{network: a, cidr: 10.0.0.0}]}]", "services[0].cidrVips[0].cidr",
        "address/length"
      ),
      (
        "services: [{\(service), cidrVips: [{network: a, cidr: 10.0.0.0/33}]}]", "services[0].cidrVips[0].cidr",
        "10.0.0.0/33"
      ),
      (
        "services: [{\(service), loadBalancer: {mode: Failover, healthPolicy: AllowAll, routingPreferences: [Rack]}}]",
        "services[0].loadBalancer.routingPreferences[0]", "not one of Region, Zone, Subzone, Node, Cluster, Network"
      ),
      ("services: [{\(service), loadBalancer: {mode: Failover}}]", "services[0].loadBalancer", "is required"),
      ("services: [{\(service), ipFamilies: IPv5}]", "services[0].ipFamilies", "not one of Dual, IPv4, IPv6"),
      (
        "services: [{\(service), endpoints: {u: {workloadUid: u, port: {}}}}]", "services[0].endpoints.u",
        "no workload in this file has uid u"
      ),
      (
        "workloads: [{\(workload)}]\nservices: [{\(service), endpoints: {u: {workloadUid: u, port: {}, status: Unhealthy}}}]",
        "services[0].endpoints.u", "status differs"
      ),
      (policy("{sourceIps: [10.0.0.1]}"), "policies[0].rules[0][0][0].sourceIps[0]", "address/length"),
      (policy("{sourceIPs: [10.0.0.0/8]}"), "policies[0].rules[0][0][0].sourceIPs", "unknown key"),
      (policy("{destinationPorts: [0]}"), "policies[0].rules[0][0][0].destinationPorts[0]", "from 1 to 65535"),
      (policy("{destinationPorts: [65536]}"), "policies[0].rules[0][0][0].destinationPorts[0]", "from 1 to 65535"),
      (policy("{namespaces: [!Regex a]}"), "policies[0].rules[0][0][0].namespaces[0]", "expected one of Exact"),
      (policy("{namespaces: [{Exact: a, Prefix: b}]}"), "policies[0].rules[0][0][0].namespaces[0]", "only key"),
      (policy("{namespaces: [\"\"]}"), "policies[0].rules[0][0][0].namespaces[0]", "without an identity"),
      (policy("{namespaces: [!Presence [x]]}"), "policies[0].rules[0][0][0].namespaces[0]", "takes no value"),
      (policy("{namespaces: a}"), "policies[0].rules[0][0][0].namespaces", "expected a list"),
      (
        policy("{principals: [\"spiffe://td/ns/n/sa/s\"]}"), "policies[0].rules[0][0][0].principals[0]",
        "without spiffe://"
      ),
      (
        policy("{principals: [!Prefix \"spiffe://td\"]}"), "policies[0].rules[0][0][0].principals[0]",
        "without spiffe://"
      ),
      (
        "policies: [{name: p, namespace: n, scope: Global, action: Audit, dryRun: false, rules: []}]",
        "policies[0].action", "\"Audit\" is not one of Allow, Deny"
      ),
      (
        "policies: [{name: p, namespace: n, scope: Global, action: Deny, rules: []}]", "policies[0]",
        "dryRun is required"
      ),
      (
        "policies: [{name: p, namespace: n, scope: global, action: Deny, dryRun: false, rules: []}]",
        "policies[0].scope", "not one of Global, Namespace, WorkloadSelector"
      ),
      (
        "policies: [{name: a/b, namespace: n, scope: Global, action: Deny, dryRun: false, rules: []}]",
        "policies[0].name", "without a slash"
      ),
    ])
  func wrong(_ text: String, _ path: String, _ reason: String) {
    let problems = Self.problems(text)
    #expect(problems.contains { $0.path == path && $0.reason.contains(reason) }, "\(problems)")
    #expect(problems.allSatisfy { $0.line > 0 && $0.column > 0 }, "\(problems)")
  }

  @Test("a problem is on the line and column where it is written")
  func position() {
    let problems = Self.problems(
      """
      workloads:
      - uid: u
        namespace: n
        workloadIps:
        - 10.0.0.1
        - nonsense
        services: {}
        typo: 1
      """)
    #expect(
      problems.map { "\($0.line):\($0.column) \($0.path)" } == [
        "6:5 workloads[0].workloadIps[1]", "8:3 workloads[0].typo",
      ])
  }

  @Test("duplicates name both lines")
  func duplicates() {
    let problems = Self.problems(
      """
      workloads:
      - {\(Self.workload)}
      - {\(Self.workload)}
      services:
      - {\(Self.service)}
      - {\(Self.service)}
      policies:
      - {name: p, namespace: n, scope: Global, action: Deny, dryRun: false, rules: []}
      - {name: p, namespace: n, scope: Namespace, action: Allow, dryRun: false, rules: []}
      """)
    #expect(
      problems.map { "\($0.line) \($0.reason)" } == [
        "3 workload uid u is there already on line 2", "6 service n/h is there already on line 5",
        "9 policy n/p is there already on line 8",
      ])
  }

  @Test("twenty problems are listed and the rest counted")
  func many() {
    let text = "workloads:\n" + String(repeating: "- 1\n", count: 50)
    #expect(throws: MeshFileError.self) { try Self.parse(text) }
    do { _ = try Self.parse(text) } catch {
      guard case .invalid(let source, let problems, let omitted) = error else {
        Issue.record("\(error)")
        return
      }
      #expect(source == "mesh.yaml" && problems.count == 20 && omitted == 30)
      #expect(error.summary.hasSuffix("; and 30 more"))
    }
  }

  @Test(
    "what is not YAML is refused with its place",
    arguments: [
      ("a: [", 2), ("a: b: c", 1), ("workloads: []\n\tx: 1", 2), ("workloads: []\nworkloads: []", 2), ("a: 'b", 2),
      ("}", 1), ("- a\nb: c", 2), ("workloads: []\n---\nworkloads: []", 2), ("\u{1}", 1),
      ("%YAML 9.9\n---\na: b", 1),
    ])
  func syntax(_ text: String, _ line: Int) {
    do {
      _ = try Self.parse(text)
      Issue.record("the document loaded")
    } catch {
      #expect(error.code == "MESH_FILE_SYNTAX" || error.code == "MESH_FILE_INVALID", "\(error)")
      if case .syntax(_, let problem) = error { #expect((problem.line...problem.line + 1).contains(line), "\(error)") }
    }
  }

  @Test(
    "anchors are refused, so no alias can grow",
    arguments: [
      ("a: &x 1\nb: *x", 1), ("- &a [lol]\n- &b [*a, *a]", 1), ("workloads: []\n? [&k a]\n: b", 2), ("&a {b: c}", 1),
      ("{a: 1,&x b: 2}", 1), ("[&a x]", 1), ("a: *b", 1),
    ])
  func anchors(_ text: String, _ line: Int) {
    #expect(throws: MeshFileError.anchors(source: "mesh.yaml", line: line)) { try Self.parse(text) }
  }

  @Test(
    "an ampersand in a text or a comment is no anchor",
    arguments: ["name: R&D", "name: R & D", "name: R &D", "name: \"&x\"", "# see &x\nname: a"])
  func ampersand(_ text: String) throws {
    _ = try Self.parse("workloads:\n- {\(Self.workload)}\n").workloads
    let indented = text.split(separator: "\n").map { "  \($0)" }.joined(separator: "\n")
    let document = try Self.parse(
      "workloads:\n- uid: u\n  namespace: n\n  workloadIps: []\n  services: {}\n\(indented)")
    #expect(document.workloads.count == 1)
  }

  @Test("a document that is too large or no text is refused before it is read")
  func size() {
    let large = [UInt8](repeating: UInt8(ascii: " "), count: MeshDocument.maximumSize + 1)
    #expect(throws: MeshFileError.tooLarge(source: "f", bytes: large.count, limit: MeshDocument.maximumSize)) {
      try MeshDocument.parse(large, source: "f")
    }
    #expect(throws: MeshFileError.notUTF8(source: "f")) { try MeshDocument.parse([0x61, 0xff], source: "f") }
  }

  @Test("endless nesting is refused", arguments: ["[", "{a: ", "- ", "? "])
  func nesting(_ opening: String) {
    #expect(throws: MeshFileError.self) { try Self.parse(String(repeating: opening, count: 50_000)) }
    #expect(throws: MeshFileError.self) { try Self.parse(String(repeating: opening, count: 900)) }
  }

  @Test("a damaged document is refused or read, and never crashes", arguments: 0..<8)
  func damaged(_ seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    let original = Array(Self.example.utf8)
    let alphabet = Array("{}[]:,-&*!?|>'\"#%@` \n\t\0\u{e9}0a~".utf8)
    for _ in 0..<60 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let index = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[index] = alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
        case 1: bytes.remove(at: index)
        default: bytes.insert(alphabet[Int.random(in: 0..<alphabet.count, using: &random)], at: index)
        }
      }
      do {
        _ = try MeshDocument.parse(bytes, source: "f")
      } catch {
        #expect(error.code.hasPrefix("MESH_FILE_") && !error.summary.isEmpty)
      }
    }
  }
}
