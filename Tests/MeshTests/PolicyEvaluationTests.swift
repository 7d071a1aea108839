import Testing
import Vocabulary

@testable import Mesh

/// policy.md §5, §6, §7.3 and §9.4.
@Suite struct PolicyEvaluationTests {
  static let mesh = identity("cluster.local/ns/shop/sa/web")

  /// The verdict for a connection to a pod of namespace `shop` that lists `listed`.
  static func decide(
    _ policies: [AuthorizationPolicy], listed: [String] = [], identity: SPIFFEIdentity? = mesh, port: UInt16 = 8080
  ) -> PolicyDecision {
    let pod = Workload.Record.pod("cart", "10.0.0.7") { $0.authorizationPolicies = listed }
    let snapshot = MeshSnapshot(workloads: [pod], policies: policies)
    return snapshot.evaluate(
      ConnectionAttributes(
        sourceIP: ip("10.0.0.9"), destination: SocketAddress(ip("10.0.0.7"), port), identity: identity),
      destination: snapshot.pod("cart"))
  }

  static func policy(
    _ name: String, _ action: AuthorizationPolicy.Action, dryRun: Bool = false, matches: Bool
  ) -> AuthorizationPolicy {
    .make(name, action, isDryRun: dryRun, rules: matches ? [[]] : [])
  }

  struct SetRow: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var policies: [AuthorizationPolicy]
    var verdict: PolicyVerdict
    var dryRuns: [DryRunOutcome] = []
  }

  static let sets: [SetRow] = [
    SetRow(testDescription: "none", policies: [], verdict: .allow(.noAllowPolicies)),
    SetRow(
      testDescription: "E-DENY that matches", policies: [policy("d", .deny, matches: true)],
      verdict: .deny(.explicitlyDenied(by: "shop/d"))),
    SetRow(
      testDescription: "E-DENY that does not", policies: [policy("d", .deny, matches: false)],
      verdict: .allow(.noAllowPolicies)),
    SetRow(
      testDescription: "E-ALLOW that does not", policies: [policy("a", .allow, matches: false)],
      verdict: .deny(.notAllowed)),
    SetRow(
      testDescription: "two E-ALLOW, one matches",
      policies: [policy("a", .allow, matches: false), policy("b", .allow, matches: true)],
      verdict: .allow(.allowed(by: "shop/b"))),
    SetRow(
      testDescription: "E-ALLOW and E-DENY, both match",
      policies: [policy("a", .allow, matches: true), policy("d", .deny, matches: true)],
      verdict: .deny(.explicitlyDenied(by: "shop/d"))),
    SetRow(
      testDescription: "D-DENY that matches", policies: [policy("d", .deny, dryRun: true, matches: true)],
      verdict: .allow(.noAllowPolicies), dryRuns: [.denyPolicyMatched("shop/d")]),
    SetRow(
      testDescription: "D-ALLOW that does not", policies: [policy("a", .allow, dryRun: true, matches: false)],
      verdict: .allow(.noAllowPolicies), dryRuns: [.noAllowPolicyMatched]),
    SetRow(
      testDescription: "D-ALLOW and E-ALLOW, only D matches",
      policies: [policy("a", .allow, dryRun: true, matches: true), policy("b", .allow, matches: false)],
      verdict: .deny(.notAllowed), dryRuns: [.allowPolicyMatched("shop/a")]),
    SetRow(
      testDescription: "D-ALLOW that matches and no E-ALLOW",
      policies: [policy("a", .allow, dryRun: true, matches: true)], verdict: .allow(.noAllowPolicies),
      dryRuns: [.allowPolicyMatched("shop/a")]),
    SetRow(
      testDescription: "D-DENY, E-DENY and D-ALLOW, all match",
      policies: [
        policy("a", .allow, dryRun: true, matches: true), policy("d", .deny, matches: true),
        policy("dd", .deny, dryRun: true, matches: true),
      ], verdict: .deny(.explicitlyDenied(by: "shop/d")), dryRuns: [.denyPolicyMatched("shop/dd")]),
    SetRow(
      testDescription: "D-ALLOW that does not match beside an E-ALLOW that does",
      policies: [policy("a", .allow, dryRun: true, matches: false), policy("b", .allow, matches: true)],
      verdict: .allow(.allowed(by: "shop/b"))),
    SetRow(
      testDescription: "two E-DENY, the first by name is reported",
      policies: [policy("z", .deny, matches: true), policy("b", .deny, matches: true)],
      verdict: .deny(.explicitlyDenied(by: "shop/b"))),
  ]

  @Test("sets of policies come to one verdict", arguments: sets)
  func set(_ row: SetRow) {
    let decision = Self.decide(row.policies)
    #expect(decision.verdict == row.verdict)
    #expect(decision.dryRuns == row.dryRuns)
  }

  static let strict = AuthorizationPolicy.make(
    "istio_converted_static_strict", .deny, scope: .workloadSelector, namespace: "istio-system",
    rules: [[[.notPrincipal(.presence)]]])
  static let strictButOpen9090 = AuthorizationPolicy.make(
    "converted", .deny, scope: .workloadSelector, rules: [[[.notPrincipal(.presence)], [.notPort(9090)]]])
  static let openButStrict9090 = AuthorizationPolicy.make(
    "converted", .deny, scope: .workloadSelector,
    rules: [
      [
        [
          .with {
            $0.principals = .init(excluding: [.presence])
            $0.destinationPorts = .init([9090])
          }
        ]
      ]
    ])
  static let allow8080 = AuthorizationPolicy.make("allow-8080", rules: [[[.port(8080)]]])

  struct StrictRow: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var policies: [AuthorizationPolicy]
    var mesh8080: Bool
    var mesh9090: Bool
    var plain8080: Bool
    var plain9090: Bool
  }

  @Test(
    "strict mode arrives as deny policies",
    arguments: [
      StrictRow(
        testDescription: "static strict", policies: [strict], mesh8080: true, mesh9090: true, plain8080: false,
        plain9090: false),
      StrictRow(
        testDescription: "strict except 9090", policies: [strictButOpen9090], mesh8080: true, mesh9090: true,
        plain8080: false, plain9090: true),
      StrictRow(
        testDescription: "permissive except 9090", policies: [openButStrict9090], mesh8080: true, mesh9090: true,
        plain8080: true, plain9090: false),
      StrictRow(
        testDescription: "static strict and allow 8080", policies: [strict, allow8080], mesh8080: true,
        mesh9090: false, plain8080: false, plain9090: false),
    ])
  func strictMode(_ row: StrictRow) {
    let listed = row.policies.filter { $0.scope == .workloadSelector }.map(\.key)
    let cases: [(SPIFFEIdentity?, UInt16, Bool)] = [
      (Self.mesh, 8080, row.mesh8080), (Self.mesh, 9090, row.mesh9090), (nil, 8080, row.plain8080),
      (nil, 9090, row.plain9090),
    ]
    for (identity, port, isAllowed) in cases {
      #expect(Self.decide(row.policies, listed: listed, identity: identity, port: port).isAllowed == isAllowed)
    }
  }

  @Test(
    "scope decides where a policy applies",
    arguments: [
      (AuthorizationPolicy.Scope.global, "elsewhere", false, true), (.namespace, "shop", false, true),
      (.namespace, "elsewhere", false, false), (.namespace, "elsewhere", true, true),
      (.workloadSelector, "shop", false, false), (.workloadSelector, "shop", true, true),
      (.workloadSelector, "elsewhere", true, true),
    ])
  func scope(_ scope: AuthorizationPolicy.Scope, _ namespace: String, _ isListed: Bool, _ applies: Bool) {
    let policy = AuthorizationPolicy.make("d", .deny, scope: scope, namespace: namespace, rules: [[]])
    #expect(Self.decide([policy], listed: isListed ? [policy.key] : []).isAllowed != applies)
  }

  @Test("a policy that is listed and unknown denies and is named")
  func unknownPolicy() {
    let decision = Self.decide([Self.policy("a", .allow, matches: true)], listed: ["shop/x"])
    #expect(decision.rejection == .unknownPolicy("shop/x"))
    #expect(decision.rejection?.summary == "policy shop/x is referenced but unknown")
  }

  @Test("a policy that applies by its scope and is listed too, or listed twice, is evaluated once")
  func evaluatedOnce() {
    let dryRuns = [
      AuthorizationPolicy.make("g", .deny, scope: .global, isDryRun: true, rules: [[]]),
      .make("n", .deny, scope: .namespace, isDryRun: true, rules: [[]]),
      .make("w", .deny, scope: .workloadSelector, isDryRun: true, rules: [[]]),
    ]
    let listed = ["shop/g", "shop/n", "shop/w", "shop/w"]
    #expect(Self.decide(dryRuns, listed: listed).dryRuns.compactMap(\.policy) == ["shop/g", "shop/n", "shop/w"])
  }

  @Test("an explicit denial is reported before an unknown policy")
  func deniedBeforeUnknown() {
    let decision = Self.decide([Self.policy("d", .deny, matches: true)], listed: ["shop/x"])
    #expect(decision.rejection?.summary == "explicitly denied by: shop/d")
  }

  @Test("nothing allowed is reported in its own words")
  func notAllowed() {
    #expect(
      Self.decide([Self.policy("a", .allow, matches: false)]).rejection?.summary
        == "allow policies exist, but none allowed")
  }

  @Test("a policy sent again with another scope applies only where it now belongs")
  func scopeChange() {
    let pod = Workload.Record.pod("cart", "10.0.0.7")
    let global = AuthorizationPolicy.make("d", .deny, scope: .global, rules: [[]])
    let attached = AuthorizationPolicy.make("d", .deny, scope: .workloadSelector, rules: [[]])
    let connection = ConnectionAttributes(sourceIP: ip("10.0.0.9"), destination: socket("10.0.0.7:80"))
    var snapshot = MeshSnapshot(workloads: [pod], policies: [global])
    #expect(!snapshot.evaluate(connection, destination: snapshot.pod("cart")).isAllowed)

    snapshot = snapshot.applying([.upsertPolicy(attached)]).snapshot
    #expect(snapshot.evaluate(connection, destination: snapshot.pod("cart")).isAllowed)
    #expect(snapshot.policyCount == 1)

    snapshot = snapshot.applying([.upsertPolicy(global), .removePolicy(key: "shop/d")]).snapshot
    #expect(snapshot.evaluate(connection, destination: snapshot.pod("cart")).isAllowed)
    #expect(snapshot.policyCount == 0)
  }
}
