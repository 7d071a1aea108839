import Testing
import Vocabulary

@testable import Mesh

typealias Match = AuthorizationPolicy.Match

extension AuthorizationPolicy {
  /// Rules written as lists of clauses, clauses as lists of matches.
  static func make(
    _ name: String = "policy", _ action: Action = .allow, scope: Scope = .global, namespace: String = "shop",
    isDryRun: Bool = false, rules: [[[Match]]]
  ) -> Self {
    .init(
      name: name, namespace: namespace, scope: scope, action: action, isDryRun: isDryRun,
      rules: rules.map { Rule($0.map { Clause($0) }) })
  }
}

extension Match {
  static func with(_ change: (inout Match) -> Void) -> Match {
    var match = Match()
    change(&match)
    return match
  }

  static let empty = Match()
  static func port(_ port: UInt16) -> Match { .with { $0.destinationPorts = .init([port]) } }
  static func notPort(_ port: UInt16) -> Match { .with { $0.destinationPorts = .init(excluding: [port]) } }
  static func principal(_ match: AuthorizationPolicy.StringMatch) -> Match { .with { $0.principals = .init([match]) } }
  static func notPrincipal(_ match: AuthorizationPolicy.StringMatch) -> Match {
    .with { $0.principals = .init(excluding: [match]) }
  }
  static func namespace(_ match: AuthorizationPolicy.StringMatch) -> Match { .with { $0.namespaces = .init([match]) } }
}

/// policy.md §3, §4, §7.1 and §7.2.
@Suite struct PolicyMatchTests {
  static let plaintext = ConnectionAttributes(sourceIP: ip("127.0.0.1"), destination: socket("127.0.0.2:8080"))
  static let peerA = ConnectionAttributes(
    sourceIP: ip("127.0.0.1"), destination: socket("127.0.0.2:8080"), identity: identity("td/ns/namespace/sa/account"))
  static let peerB = ConnectionAttributes(
    sourceIP: ip("127.0.0.3"), destination: socket("127.0.0.4:9090"), identity: identity("td-alt/ns/ns-alt/sa/x"))

  struct Structure: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var rules: [[[Match]]]
    var port80: Bool
    var port81: Bool
  }

  @Test(
    "what a policy without, with empty and with partly empty parts matches",
    arguments: [
      Structure(testDescription: "no rules", rules: [], port80: false, port81: false),
      Structure(testDescription: "one rule, no clauses", rules: [[]], port80: true, port81: true),
      Structure(testDescription: "one clause, no matches", rules: [[[]]], port80: true, port81: true),
      Structure(testDescription: "one empty match", rules: [[[.empty]]], port80: false, port81: false),
      Structure(
        testDescription: "an empty match or port 80", rules: [[[.empty, .port(80)]]], port80: true, port81: false),
      Structure(
        testDescription: "port 80 and an empty match", rules: [[[.port(80)], [.empty]]], port80: false, port81: false),
      Structure(
        testDescription: "an impossible rule or port 80", rules: [[[.empty]], [[.port(80)]]], port80: true,
        port81: false),
    ])
  func structure(_ row: Structure) {
    let policy = CompiledPolicy(.make(rules: row.rules))
    for (port, matches) in [(UInt16(80), row.port80), (81, row.port81)] {
      var connection = Self.peerA
      connection.destination.port = port
      #expect(policy.matches(connection) == matches)
    }
  }

  struct Row: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var rules: [[[Match]]]
    var expected: [Bool]

    init(_ text: String, _ p: Bool, _ a: Bool, _ b: Bool, rules: [[[Match]]]) {
      testDescription = text
      self.rules = rules
      expected = [p, a, b]
    }

    init(_ text: String, _ p: Bool, _ a: Bool, _ b: Bool, _ change: (inout Match) -> Void) {
      self.init(text, p, a, b, rules: [[[.with(change)]]])
    }
  }

  static let account = AuthorizationPolicy.ServiceAccount(namespace: "namespace", name: "account")
  static let principalA = AuthorizationPolicy.StringMatch.exact("td/ns/namespace/sa/account")

  static let fields: [Row] = [
    Row("namespaces exact", false, true, false) { $0.namespaces = .init([.exact("namespace")]) },
    Row("not_namespaces exact", true, false, true) { $0.namespaces = .init(excluding: [.exact("namespace")]) },
    Row("principals exact", false, true, false) { $0.principals = .init([principalA]) },
    Row("not_principals exact", true, false, true) { $0.principals = .init(excluding: [principalA]) },
    Row("principals presence", false, true, true) { $0.principals = .init([.presence]) },
    Row("not_principals presence", true, false, false) { $0.principals = .init(excluding: [.presence]) },
    Row("service_accounts", false, true, false) { $0.serviceAccounts = .init([account]) },
    Row("not_service_accounts", true, false, true) { $0.serviceAccounts = .init(excluding: [account]) },
    Row("source_ips /32", true, true, false) { $0.sourceIPs = .init([prefix("127.0.0.1/32")]) },
    Row("not_source_ips /32", false, false, true) { $0.sourceIPs = .init(excluding: [prefix("127.0.0.1/32")]) },
    Row("destination_ips /24", true, true, true) { $0.destinationIPs = .init([prefix("127.0.0.0/24")]) },
    Row("destination_ports 8080", true, true, false) { $0.destinationPorts = .init([8080]) },
    Row("not_destination_ports 8080", false, false, true) { $0.destinationPorts = .init(excluding: [8080]) },
    Row("namespaces prefix empty", true, true, true) { $0.namespaces = .init([.prefix("")]) },
    Row("principal and port in one match", false, false, false) {
      $0.principals = .init([principalA])
      $0.destinationPorts = .init([9090])
    },
    Row(
      "principal or port as two matches of a clause", false, true, true,
      rules: [[[.principal(principalA), .port(9090)]]]),
    Row(
      "principal and port as two clauses", false, false, false, rules: [[[.principal(principalA)], [.port(9090)]]]),
    // Beyond the table.
    Row("namespaces presence", false, true, true) { $0.namespaces = .init([.presence]) },
    Row("namespaces exact empty", true, false, false) { $0.namespaces = .init([.exact("")]) },
    Row("not_namespaces exact empty", false, true, true) { $0.namespaces = .init(excluding: [.exact("")]) },
    Row("namespaces suffix", false, false, true) { $0.namespaces = .init([.suffix("-alt")]) },
    Row("source_ips of the other family", false, false, false) { $0.sourceIPs = .init([prefix("::/0")]) },
    Row("not_source_ips of the other family", true, true, true) {
      $0.sourceIPs = .init(excluding: [prefix("::/0")])
    },
    Row("a value both wanted and excluded", false, false, false) {
      $0.destinationPorts = .init([8080, 9090], excluding: [8080, 9090])
    },
    Row("any of several values", true, true, true) { $0.destinationPorts = .init([9090, 8080]) },
    Row("principals with the scheme", false, false, false) {
      $0.principals = .init([.exact("spiffe://td/ns/namespace/sa/account"), .prefix("spiffe://")])
    },
    Row("not_principals and not_namespaces together", true, false, true) {
      $0.principals = .init(excluding: [principalA])
      $0.namespaces = .init(excluding: [.exact("elsewhere")])
    },
  ]

  @Test("fields match the peers they should", arguments: fields)
  func field(_ row: Row) {
    let policy = CompiledPolicy(.make(rules: row.rules))
    let outcome = [Self.plaintext, Self.peerA, Self.peerB].map(policy.matches)
    #expect(outcome == row.expected)
  }

  static let principals: [(AuthorizationPolicy.StringMatch, Bool)] = [
    (.prefix(""), true), (.prefix("t"), true), (.prefix("td"), true), (.prefix("td/"), true), (.prefix("td/ns/"), true),
    (.prefix("td/ns/names"), true), (.prefix("td/ns/namespace/sa/acc"), true),
    (.prefix("td/ns/namespace/sa/account"), true), (.prefix("td/ns/namespace/sa/accounts"), false),
    (.prefix("tds"), false), (.prefix("TD"), false), (.prefix("td/ns/namespaces"), false), (.prefix("d/ns"), false),
    (.suffix(""), true), (.suffix("t"), true), (.suffix("account"), true), (.suffix("/account"), true),
    (.suffix("/sa/account"), true), (.suffix("space/sa/account"), true), (.suffix("d/ns/namespace/sa/account"), true),
    (.suffix("td/ns/namespace/sa/account"), true), (.suffix("atd/ns/namespace/sa/account"), false),
    (.suffix("accoun"), false), (.suffix("ns/account"), false), (.exact("td/ns/namespace/sa/accoun"), false),
    (.exact(""), false), (.exact("td/ns/namespace/sa/account/"), false), (.presence, true),
    // The Kelvin sign is the letter K to Swift strings, and not to policies.
    (.prefix("\u{212A}"), false), (.exact("td/ns/namespace/sa/account\u{301}"), false),
  ]

  @Test("principals are compared as one text without building it", arguments: principals)
  func principal(_ match: AuthorizationPolicy.StringMatch, _ expected: Bool) {
    #expect(CompiledPolicy(.make(rules: [[[.principal(match)]]])).matches(Self.peerA) == expected)
  }

  @Test(
    "strings are compared byte by byte",
    arguments: [
      (AuthorizationPolicy.StringMatch.exact("K"), "K", true), (.exact("\u{212A}"), "K", false),
      (.exact("K"), "\u{212A}", false), (.exact("e\u{301}"), "\u{e9}", false), (.exact("\u{e9}"), "\u{e9}", true),
      (.prefix("e"), "e\u{301}", true), (.suffix("\u{301}"), "e\u{301}", true), (.prefix("E"), "e", false),
      (.suffix("x*"), "ax*", true), (.suffix("x*"), "ax", false), (.presence, "", false), (.prefix("ab"), "a", false),
    ])
  func bytes(_ match: AuthorizationPolicy.StringMatch, _ value: String, _ expected: Bool) {
    #expect(match.accepts(value) == expected)
    #expect(NamespaceMatcher([match]).accepts(value) == expected)
  }

  @Test(
    "the text form of policies names the kind of match",
    arguments: [
      ("*", AuthorizationPolicy.StringMatch.presence), ("*x", .suffix("x")), ("x*", .prefix("x")), ("x", .exact("x")),
      ("*x*", .suffix("x*")), ("a*b", .exact("a*b")), ("**", .suffix("*")), ("", .exact("")),
    ])
  func textForm(_ text: String, _ match: AuthorizationPolicy.StringMatch) {
    #expect(AuthorizationPolicy.StringMatch(text: text) == match)
  }

  @Test("a source given as mapped IPv6 is checked as IPv4")
  func mappedSource() {
    let connection = ConnectionAttributes(sourceIP: ip("::ffff:127.0.0.1"), destination: socket("127.0.0.2:80"))
    let policy = CompiledPolicy(.make(rules: [[[.with { $0.sourceIPs = .init([prefix("127.0.0.0/8")]) }]]]))
    #expect(policy.matches(connection))
  }
}
