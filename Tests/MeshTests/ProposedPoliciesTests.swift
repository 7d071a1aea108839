import Testing
import Vocabulary

@testable import Mesh

/// policy.md §9.1, and observability.md §6 for dumps.
@Suite("Policies to try")
struct ProposedPoliciesTests {
  private func translate(_ yaml: String) throws -> (policy: AuthorizationPolicy?, notes: [String]) {
    var proposed = ProposedPolicies()
    try proposed.add(Array(yaml.utf8), source: "p.yaml")
    let mesh = MeshSnapshot(workloads: [.pod("cart", "10.0.0.2")])
    let (applied, notes) = proposed.applied(to: mesh)
    return (applied.allPolicies.first, notes)
  }

  private func resource(_ spec: String, namespace: String = "shop", annotations: String = "{}") -> String {
    """
    apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {name: p, namespace: \(namespace), annotations: \(annotations), labels: {any: thing}}
    spec: \(spec)
    """
  }

  @Test("clauses come as the control plane sends them: ports, sources, then one for each condition")
  func clauses() throws {
    let policy = try #require(
      try translate(
        resource(
          """
          {action: DENY, rules: [{from: [{source: {principals: ["cluster.local/ns/a/sa/b"], notNamespaces: ["x*"],
            serviceAccounts: [one, ns/two], ipBlocks: [10.0.0.1, 10.1.0.0/16]}}],
            to: [{operation: {ports: ["80", 8080]}}], when: [{key: destination.port, notValues: ["81"]}]}]}
          """)
      ).policy)
    #expect(policy.action == .deny)
    #expect(policy.scope == .namespace)
    let clauses = try #require(policy.rules.first).clauses
    #expect(clauses.count == 3)
    #expect(clauses[0].matches[0].destinationPorts.values == [80, 8080])
    let source = clauses[1].matches[0]
    #expect(source.principals.values == [.exact("cluster.local/ns/a/sa/b")])
    #expect(source.namespaces.excluded == [.prefix("x")])
    #expect(
      source.serviceAccounts.values == [.init(namespace: "shop", name: "one"), .init(namespace: "ns", name: "two")])
    #expect(source.sourceIPs.values == [prefix("10.0.0.1/32"), prefix("10.1.0.0/16")])
    #expect(clauses[2].matches[0].destinationPorts.excluded == [81])
  }

  @Test(
    "scope, dry run and the two kinds of nothing",
    arguments: [
      ("{}", "shop", "{}", AuthorizationPolicy.Scope.namespace, false, 0),
      ("{rules: [{}]}", "istio-system", "{}", .global, false, 1),
      ("{selector: {matchLabels: {app: cart}}, rules: [{}]}", "shop", "{}", .workloadSelector, false, 1),
      ("{rules: [{}]}", "shop", "{istio.io/dry-run: \"true\"}", .namespace, true, 1),
    ])
  func scopes(
    _ spec: String, _ namespace: String, _ annotations: String, _ scope: AuthorizationPolicy.Scope, _ isDryRun: Bool,
    _ rules: Int
  ) throws {
    let policy = try #require(try translate(resource(spec, namespace: namespace, annotations: annotations)).policy)
    #expect(policy.scope == scope)
    #expect(policy.isDryRun == isDryRun)
    #expect(policy.rules.count == rules)
  }

  @Test("HTTP conditions drop the rule of an ALLOW policy, and make that of a DENY policy stricter; it is said")
  func http() throws {
    let rules = "rules: [{to: [{operation: {methods: [GET], ports: [\"80\"]}}]}, {to: [{operation: {paths: [/x]}}]}]"
    let allow = try translate(resource("{\(rules)}"))
    #expect(allow.policy?.rules.isEmpty == true)
    #expect(allow.notes.contains { $0.contains("HTTP conditions are left out") })
    let deny = try translate(resource("{action: DENY, \(rules)}"))
    #expect(deny.policy?.rules.count == 2)
    #expect(deny.policy?.rules[1].clauses[0].matches[0].isEmpty == true, "it never fires")
  }

  @Test("what is a waypoint's is not for ztunnel")
  func waypoints() throws {
    for spec in [
      "{targetRefs: [{kind: Gateway, name: w}]}", "{action: AUDIT}", "{action: CUSTOM, provider: {name: x}}",
    ] {
      let result = try translate(resource(spec))
      #expect(result.policy == nil)
      #expect(result.notes.contains { $0.contains("not for ztunnel") })
    }
  }

  @Test(
    "mistakes are named, and nothing of the file is used",
    arguments: [
      ("kind: Pod\nmetadata: {name: p}", "kind Pod"),
      ("kind: AuthorizationPolicy\nspec: {}", "metadata"),
      ("kind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {rule: []}", "unknown key"),
      (
        "kind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {rules: [{from: [{source: {ipBlocks: [x]}}]}]}",
        "address"
      ),
      ("kind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {rules: [{when: [{key: source.prt}]}]}", "source.prt"),
      (
        "kind: AuthorizationPolicy\nmetadata: {name: p}\nspec: {rules: [{from: [{source: {principals: [spiffe://a]}}]}]}",
        "without spiffe://"
      ),
      ("kind: &a AuthorizationPolicy", "anchor"), ("- 1", "expected a map"), ("workload: []", "unknown key"),
    ])
  func mistakes(_ yaml: String, _ reason: String) {
    var proposed = ProposedPolicies()
    let error = #expect(throws: MeshFileError.self) { try proposed.add(Array(yaml.utf8), source: "p.yaml") }
    #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
    #expect(proposed.isEmpty)
  }

  @Test("a selector finds workloads by the names that labels leave in the mesh; others are assumed, and it is said")
  func selectors() throws {
    let pods: [Workload.Record] = [
      .pod("cart", "10.0.0.2") { $0.canonicalName = "cart" }, .pod("web", "10.0.0.3") { $0.canonicalName = "web" },
    ]
    let mesh = MeshSnapshot(workloads: pods)
    var proposed = ProposedPolicies()
    try proposed.add(Array(resource("{selector: {matchLabels: {app: cart, tier: x}}}").utf8), source: "p.yaml")
    let (applied, notes) = proposed.applied(to: mesh)
    #expect(applied.pod("cart").authorizationPolicies == ["shop/p"])
    #expect(applied.pod("web").authorizationPolicies.isEmpty)
    #expect(notes.contains { $0.contains("labels tier") })
  }

  @Test("several documents, lists, mesh files; and a policy is taken away without leaving its name behind")
  func forms() throws {
    var proposed = ProposedPolicies()
    let list = """
      apiVersion: v1
      kind: List
      items:
      - {kind: AuthorizationPolicy, metadata: {name: one, namespace: shop}}
      ---
      kind: AuthorizationPolicy
      metadata: {name: two, namespace: shop}
      """
    try proposed.add(Array(list.utf8), source: "list")
    let file = "policies: [{name: three, namespace: shop, scope: Namespace, action: Deny, dryRun: false, rules: []}]"
    try proposed.add(Array(file.utf8), source: "mesh")
    proposed.remove("shop/old")
    let mesh = MeshSnapshot(
      workloads: [.pod("cart", "10.0.0.2") { $0.authorizationPolicies = ["shop/old"] }],
      policies: [.make("old", .deny, scope: .workloadSelector, rules: [])])
    let applied = proposed.applied(to: mesh).mesh
    #expect(applied.allPolicies.map(\.key).sorted() == ["shop/one", "shop/three", "shop/two"])
    #expect(applied.pod("cart").authorizationPolicies.isEmpty)
  }

  @Test("a dump of Istio's own ztunnel is read: lists of services, unknown keys, endpoints without their workload")
  func dump() throws {
    let parts = MeshDocument.DumpedParts(
      workloads: Array(
        #"""
        [{"authorizationPolicies": ["shop/only-web"], "canonicalName": "cart", "canonicalRevision": "v2", "capacity": 1,
          "clusterId": "Kubernetes", "name": "cart-77b", "namespace": "shop", "nativeTunnel": true, "future": [1],
          "networkMode": "Standard", "node": "n1", "protocol": "HBONE", "serviceAccount": "cart",
          "services": ["shop/cart.shop.svc.cluster.local"], "status": "Healthy", "trustDomain": "cluster.local",
          "uid": "Kubernetes//Pod/shop/cart-77b", "workloadIps": ["10.1.1.9"], "workloadType": "deployment"}]
        """#.utf8),
      services: Array(
        #"""
        [{"canonical": true, "endpoints": {"Kubernetes//Pod/shop/cart-77b": {"port": {"80": 8080}, "status": "Healthy",
          "workloadUid": "Kubernetes//Pod/shop/cart-77b"}, "gone": {"port": {}, "workloadUid": "gone"}},
          "hostname": "cart.shop.svc.cluster.local", "ipFamilies": "IPv4", "name": "cart", "namespace": "shop",
          "ports": {"80": 8080}, "subjectAltNames": [], "vips": ["/10.96.3.4"], "visibility": "Public"}]
        """#.utf8),
      policies: Array(
        #"""
        [{"action": "Allow", "dryRun": false, "name": "only-web", "namespace": "shop", "scope": "WorkloadSelector",
          "rules": [[[{"principals": [{"Exact": "cluster.local/ns/shop/sa/web"}]}], [{"destinationPorts": [8080]}]]]}]
        """#.utf8))
    let document = try MeshDocument.parse(parts, source: "dump")
    let mesh = MeshSnapshot(document: document)
    let service = try #require(mesh.service(serviceKey("shop/cart.shop.svc.cluster.local")))
    #expect(mesh.endpoints(of: service).map(\.ports) == [[80: 8080]])
    #expect(document.policies.first?.rules.first?.clauses.count == 2)
    let broken = MeshDocument.DumpedParts(workloads: Array(#"[{"namespace": 1}"#.utf8))
    #expect(throws: MeshFileError.self) { try MeshDocument.parse(broken, source: "dump") }
  }
}
