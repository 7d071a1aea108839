import Testing
import Vocabulary

@testable import Mesh

@Suite("Explained connections")
struct ConnectionExplanationTests {
  static func mesh(
    _ policies: [AuthorizationPolicy] = [], cart: (inout Workload.Record) -> Void = { _ in },
    more: [Workload.Record] = []
  ) -> MeshSnapshot {
    MeshSnapshot(
      MeshSettings(localNode: "n1"),
      workloads: [
        .pod("web", "10.0.0.1") { $0.node = "n1" },
        Workload.Record.pod("cart", "10.0.0.2") {
          $0.node = "n2"
          cart(&$0)
        }.serving("shop/cart.shop.svc.cluster.local"),
        .pod("legacy", "10.0.0.3") {
          $0.tunnelProtocol = .none
          $0.node = "n2"
        },
      ] + more,
      services: [.named("shop/cart.shop.svc.cluster.local", "/10.96.0.1")], policies: policies)
  }

  static let served = ServedPods(pods: [.init(namespace: "shop", name: "web"): true], node: "n1")

  func explain(
    _ to: String, from: String = "shop/web", in mesh: MeshSnapshot = mesh(), served: ServedPods = served
  ) throws -> Explanation {
    mesh.explain(try #require(ConnectionQuestion(from: from, to: to)), served: served)
  }

  func line(_ explanation: Explanation, _ topic: Explanation.Topic) -> Explanation.Line? {
    explanation.lines.first { $0.topic == topic }
  }

  @Test(
    "a service is found by its names, its address, and a pod by its own",
    arguments: [
      "cart.shop.svc.cluster.local:80", "cart.shop:80", "cart:80", "CART:80", "10.96.0.1:80", "10.0.0.2:8080",
      "shop/cart:8080",
    ])
  func targets(_ to: String) throws {
    let explanation = try explain(to)
    #expect(explanation.outcome == .allowedEncrypted)
    #expect(line(explanation, .captured)?.mark == .good)
    #expect(line(explanation, .nextHop)?.text.contains("10.0.0.2:15008") == true)
    #expect(line(explanation, .nextHop)?.text.contains("asked for 10.0.0.2:8080") == true)
    #expect(line(explanation, .presented)?.text == "spiffe://cluster.local/ns/shop/sa/web")
    #expect(line(explanation, .expected)?.text == "spiffe://cluster.local/ns/shop/sa/cart")
    #expect(explanation.checks.isEmpty)
  }

  struct OutcomeRow: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var to: String
    var mesh: MeshSnapshot = ConnectionExplanationTests.mesh()
    var served = ConnectionExplanationTests.served
    var outcome: Explanation.Outcome
    var check: String
  }

  static let outcomes: [OutcomeRow] = [
    OutcomeRow(
      testDescription: "a pod that does not speak HBONE", to: "10.0.0.3:80", outcome: .allowedPlaintext,
      check: "istio.io/dataplane-mode=ambient"),
    OutcomeRow(
      testDescription: "an address nobody knows", to: "192.0.2.1:443", outcome: .allowedPlaintext, check: "192.0.2.1"),
    OutcomeRow(
      testDescription: "a name nobody knows", to: "nowhere.example:443", outcome: .unknown, check: "resolves to"),
    OutcomeRow(
      testDescription: "a port the service has not", to: "cart:81", outcome: .denied, check: "lists this port"),
    OutcomeRow(
      testDescription: "a DENY policy", to: "cart:80",
      mesh: mesh([.make("d", .deny, rules: [[]])]), outcome: .denied, check: "shop/d"),
    OutcomeRow(
      testDescription: "an ALLOW policy for others", to: "cart:80",
      mesh: mesh([.make("a", .allow, rules: [])]), outcome: .denied, check: "ALLOW policy covers"),
    OutcomeRow(
      testDescription: "a policy that is named and not known", to: "cart:80",
      mesh: mesh(cart: { $0.authorizationPolicies = ["shop/ghost"] }), outcome: .denied, check: "shop/ghost"),
    OutcomeRow(
      testDescription: "a pod that no node agent has handed over", to: "cart:80",
      served: ServedPods(node: "n1"), outcome: .allowedPlaintext, check: "node-agent explain shop/web"),
    OutcomeRow(
      testDescription: "a waypoint that is not there", to: "10.0.0.2:80",
      mesh: mesh(cart: { $0.waypoint = .host("shop/gone.shop") }), outcome: .denied, check: "waypoint runs"),
    OutcomeRow(
      testDescription: "one of the proxy's own ports", to: "127.0.0.1:15001", outcome: .denied,
      check: "port of the proxy"),
  ]

  @Test("what comes out, and what to check", arguments: outcomes)
  func outcome(_ row: OutcomeRow) throws {
    let explanation = try explain(row.to, in: row.mesh, served: row.served)
    #expect(explanation.outcome == row.outcome)
    #expect(explanation.checks.contains { $0.contains(row.check) }, "\(explanation.checks)")
  }

  @Test("a pod that is not known is not guessed, but similar ones are named")
  func unknownSource() throws {
    let explanation = try explain("cart:80", from: "shop/we")
    #expect(explanation.outcome == .unknown)
    #expect(explanation.checks == ["meant was perhaps shop/web"])
  }

  @Test("plaintext meets the policies of who receives it, as nobody")
  func uncaptured() throws {
    var match = AuthorizationPolicy.Match()
    match.principals = .init(excluding: [.presence])
    let strict = AuthorizationPolicy.make("strict", .deny, rules: [[[match]]])
    let explanation = try explain("cart:80", in: Self.mesh([strict]), served: ServedPods(node: "n1"))
    #expect(explanation.outcome == .denied)
    #expect(try explain("cart:80", in: Self.mesh([strict])).outcome == .allowedEncrypted)
  }

  @Test("endpoints that fare differently are told apart, and the worst counts")
  func endpoints() throws {
    let other = Workload.Record.pod("cart-2", "10.0.0.9") {
      $0.node = "n2"
      $0.authorizationPolicies = ["shop/closed"]
    }.serving("shop/cart.shop.svc.cluster.local")
    let closed = AuthorizationPolicy.make("closed", .deny, scope: .workloadSelector, rules: [[]])
    let explanation = try explain("cart:80", in: Self.mesh([closed], more: [other]))
    #expect(explanation.outcome == .denied)
    #expect(explanation.lines.contains { $0.text.contains("another endpoint fares differently") })
    #expect(explanation.lines.contains { $0.text.contains("1 of 2 endpoints fare alike") })
  }

  @Test("any number of endpoints comes to an end", arguments: [3, 5, 7, 300])
  func manyEndpoints(_ count: Int) throws {
    let others = (0..<count).map { index in
      Workload.Record.pod("more-\(index)", "10.1.\(index / 200).\(index % 200 + 1)") { $0.node = "n2" }
        .serving("shop/cart.shop.svc.cluster.local")
    }
    let explanation = try explain("cart:80", in: Self.mesh(more: others))
    #expect(explanation.outcome == .allowedEncrypted)
    let looked = min(count + 1, ConnectionExplainer.mostEndpoints)
    #expect(explanation.lines.contains { $0.text.hasPrefix("\(looked) of \(looked) endpoints fare alike") })
  }

  @Test("who is announced and cannot be served refuses, at either end")
  func pending() throws {
    let source = ServedPods(pods: [.init(namespace: "shop", name: "web"): false], node: "n1")
    #expect(try explain("cart:80", served: source).outcome == .denied)
    let both = ServedPods(
      pods: [.init(namespace: "shop", name: "web"): true, .init(namespace: "shop", name: "cart"): false], node: "n2")
    #expect(try explain("cart:80", served: both).outcome == .denied)
    let absent = ServedPods(pods: [.init(namespace: "shop", name: "web"): true], node: "n2")
    #expect(try explain("cart:80", served: absent).outcome == .denied)
  }

  @Test("names that would reach for the terminal are made harmless")
  func terminal() throws {
    let mesh = Self.mesh([.make("\u{1b}[2J", .deny, rules: [[]])])
    let text = try explain("cart:80", in: mesh).text
    #expect(!text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" })
  }

  @Test("through a waypoint, the destination is asked in the waypoint's name")
  func waypoint() throws {
    let waypoint = Workload.Record.pod("waypoint", "10.0.0.8") { $0.node = "n2" }
      .serving("shop/waypoint.shop", [15008: 15008])
    var match = AuthorizationPolicy.Match()
    match.principals = .init([.exact("cluster.local/ns/shop/sa/waypoint")])
    let only = AuthorizationPolicy.make("only-waypoint", .allow, rules: [[[match]]])
    var snapshot = Self.mesh([only], cart: { $0.waypoint = .host("shop/waypoint.shop") }, more: [waypoint])
    snapshot =
      snapshot.applying([
        .upsertService(.named("shop/waypoint.shop", ports: [15008: 15008]))
      ]).snapshot
    let explanation = try explain("10.0.0.2:8080", in: snapshot)
    #expect(explanation.outcome == .allowedEncrypted)
    #expect(try explain("10.0.0.2:8080", in: Self.mesh([only])).outcome == .denied)
    #expect(explanation.lines.contains { $0.text.contains("waypoint shop/waypoint") })
    #expect(explanation.lines.contains { $0.text.contains("spiffe://cluster.local/ns/shop/sa/waypoint") })
  }

  @Test("dry-run policies are told, and decide nothing")
  func dryRun() throws {
    let explanation = try explain("cart:80", in: Self.mesh([.make("d", .deny, isDryRun: true, rules: [[]])]))
    #expect(explanation.outcome == .allowedEncrypted)
    #expect(explanation.lines.contains { $0.topic == .dryRun && $0.text == "dry-run: deny policy match" })
  }

  @Test(
    "questions are understood or not",
    arguments: [
      ("shop/web", "cart:80", true), ("shop/web", "[fd00::1]:80", true), ("shop/web", "shop/cart:80", true),
      ("shop", "cart:80", false), ("shop/", "cart:80", false), ("shop/web", "cart", false),
      ("shop/web", "cart:0", false), ("shop/web", "cart:65536", false), ("shop/web", "a:b:80", false),
      ("shop/w\u{1}eb", "cart:80", false), ("a/b/c", "cart:80", false), ("shop/web", ":80", false),
    ])
  func questions(_ from: String, _ to: String, _ isGood: Bool) {
    #expect((ConnectionQuestion(from: from, to: to) != nil) == isGood)
  }
}

@Suite("Explained policies")
struct PolicyExplanationTests {
  private let connection = ConnectionAttributes(
    sourceIP: ip("10.0.0.1"), destination: socket("10.0.0.2:8080"), identity: identity("cluster.local/ns/shop/sa/web"))

  private func match(_ change: (inout AuthorizationPolicy.Match) -> Void) -> AuthorizationPolicy.Match {
    var match = AuthorizationPolicy.Match()
    change(&match)
    return match
  }

  @Test("the rule that holds is named with what it asks for")
  func holds() {
    let policy = AuthorizationPolicy.make(
      "p", .allow,
      rules: [
        [[match { $0.destinationPorts = .init([9090]) }]],
        [
          [match { $0.principals = .init([.prefix("cluster.local/")]) }],
          [match { $0.destinationPorts = .init([8080]) }],
        ],
      ])
    let explained = PolicyExplanation(policy, connection)
    #expect(explained.matchingRule == 2)
    #expect(explained.reason == "principals cluster.local/* and ports 8080")
  }

  @Test("of what does not hold, the first condition that fails is named with the value it met")
  func fails() {
    let policy = AuthorizationPolicy.make(
      "p", .allow,
      rules: [
        [[match { $0.destinationPorts = .init([9090]) }]],
        [[match { $0.sourceIPs = .init(excluding: [prefix("10.0.0.0/8")]) }]],
        [[match { _ in }]],
      ])
    let explained = PolicyExplanation(policy, connection)
    #expect(explained.matchingRule == nil)
    #expect(
      explained.reason
        == "rule 1: port 8080 fails ports 9090; rule 2: source 10.0.0.1 fails not sourceIps 10.0.0.0/8; "
        + "rule 3: a condition that cannot be checked at L4 never holds")
  }

  @Test("for seeded random policies the explanation says what the evaluator does", arguments: 0..<200)
  func agrees(_ seed: Int) {
    var random = SeededGenerator(seed: UInt64(seed))
    func some<Value>(_ values: [Value]) -> [Value] { values.filter { _ in Bool.random(using: &random) } }
    let rules: [[[AuthorizationPolicy.Match]]] = (0..<Int.random(in: 0...3, using: &random)).map { _ in
      (0..<Int.random(in: 0...2, using: &random)).map { _ in
        (0..<Int.random(in: 0...2, using: &random)).map { _ in
          match {
            $0.destinationPorts = .init(some([8080, 9090]), excluding: some([9090]))
            $0.principals = .init(some([.presence, .exact("x")]), excluding: some([.suffix("/web")]))
            $0.namespaces = .init(some([.exact("shop"), .exact("other")]))
            $0.sourceIPs = .init(some([prefix("10.0.0.0/8"), prefix("192.0.2.0/24")]))
          }
        }
      }
    }
    let policy = AuthorizationPolicy.make("p", .allow, rules: rules)
    let explained = PolicyExplanation(policy, connection)
    #expect((explained.matchingRule != nil) == CompiledPolicy(policy).matches(connection))
    #expect(!explained.reason.isEmpty && !explained.reason.contains("it does not hold"))
  }
}
