import Vocabulary

/// What one policy made of one connection, and why.
///
/// The data path's own evaluator is asked, first about the whole policy and then about ever smaller parts of it, so
/// that what is explained is what happens.
struct PolicyExplanation {
  let policy: AuthorizationPolicy
  /// Counted from 1; nil when no rule holds.
  let matchingRule: Int?
  let reason: String

  init(_ policy: AuthorizationPolicy, _ connection: ConnectionAttributes) {
    self.policy = policy
    func holds(_ rules: [AuthorizationPolicy.Rule]) -> Bool {
      var part = policy
      part.rules = rules
      return CompiledPolicy(part).matches(connection)
    }
    let index = policy.rules.firstIndex { holds([$0]) }
    matchingRule = index.map { $0 + 1 }
    if let index {
      let rule = policy.rules[index]
      let held = rule.clauses.compactMap { clause in
        clause.matches.first { holds([.init([.init([$0])])]) }.map(Self.text)
      }
      reason = held.isEmpty ? "it asks for nothing" : held.joined(separator: " and ")
      return
    }
    guard !policy.rules.isEmpty else {
      reason = "it has no rules, so nothing matches"
      return
    }
    let reasons = policy.rules.prefix(Self.mostRules).enumerated().map { number, rule in
      let failing = rule.clauses.first { !holds([.init([$0])]) }
      let why = failing.map { Self.failure(of: $0, connection, holds) } ?? "it does not hold"
      return "rule \(number + 1): \(why)"
    }
    let more = policy.rules.count - reasons.count
    reason = (reasons + (more > 0 ? ["and \(more) more"] : [])).joined(separator: "; ")
  }

  private static let mostRules = 4
  private static let mostValues = 6

  private static func failure(
    of clause: AuthorizationPolicy.Clause, _ connection: ConnectionAttributes,
    _ holds: ([AuthorizationPolicy.Rule]) -> Bool
  ) -> String {
    let reasons = clause.matches.prefix(mostRules).map { match -> String in
      if match.isEmpty { return "a condition that cannot be checked at L4 never holds" }
      for (field, text) in fields(of: match) where !holds([.init([.init([field])])]) {
        return "\(value(in: field, of: connection)) fails \(text)"
      }
      return "it does not hold"
    }
    return reasons.joined(separator: ", or ")
  }

  /// The value of the connection that the one field of `match` looks at.
  private static func value(in match: AuthorizationPolicy.Match, of connection: ConnectionAttributes) -> String {
    if !match.destinationPorts.isEmpty { return "port \(connection.destination.port)" }
    if !match.destinationIPs.isEmpty { return "destination \(connection.destination.ip)" }
    if !match.sourceIPs.isEmpty { return "source \(connection.sourceIP)" }
    guard let identity = connection.identity else { return "a peer without identity" }
    if !match.namespaces.isEmpty { return "namespace \(identity.namespace)" }
    if !match.serviceAccounts.isEmpty { return "service account \(identity.namespace)/\(identity.serviceAccount)" }
    return "principal \(identity.principal)"
  }

  /// Each field of a match as a match of its own, with its text.
  private static func fields(
    of match: AuthorizationPolicy.Match
  ) -> [(AuthorizationPolicy.Match, String)] {
    var fields: [(AuthorizationPolicy.Match, String)] = []
    func add<Value>(
      _ path: WritableKeyPath<AuthorizationPolicy.Match, AuthorizationPolicy.Condition<Value>>, _ name: String,
      _ text: (Value) -> String
    ) {
      let condition = match[keyPath: path]
      for (part, name) in [
        (AuthorizationPolicy.Condition(condition.values), name),
        (AuthorizationPolicy.Condition(excluding: condition.excluded), "not \(name)"),
      ] where !part.isEmpty {
        var single = AuthorizationPolicy.Match()
        single[keyPath: path] = part
        let values = part.values + part.excluded
        let shown = values.prefix(mostValues).map(text) + (values.count > mostValues ? ["…"] : [])
        fields.append((single, "\(name) \(shown.joined(separator: ", "))"))
      }
    }
    add(\.destinationPorts, "ports") { "\($0)" }
    add(\.destinationIPs, "destinationIps") { "\($0)" }
    add(\.sourceIPs, "sourceIps") { "\($0)" }
    add(\.principals, "principals", \.text)
    add(\.serviceAccounts, "serviceAccounts") { "\($0.namespace)/\($0.name)" }
    add(\.namespaces, "namespaces", \.text)
    return fields
  }

  private static func text(_ match: AuthorizationPolicy.Match) -> String {
    fields(of: match).map { $0.1 }.joined(separator: " and ")
  }
}

extension AuthorizationPolicy.StringMatch {
  /// As policies write it, except that an exact text with a `*` at an end cannot be told from a pattern.
  var text: String {
    switch self {
    case .exact(let text): text.isEmpty ? "\"\"" : text
    case .prefix(let text): "\(text)*"
    case .suffix(let text): "*\(text)"
    case .presence: "*"
    }
  }
}

extension PolicyStore {
  /// The policies that apply to a workload, each once, in the order of evaluation, and why they do.
  func explained(for workload: Workload) -> (
    policies: [(policy: AuthorizationPolicy, reason: String)], unknown: [String]
  ) {
    let applicable = applicable(to: workload)
    var found: [(policy: AuthorizationPolicy, reason: String)] = []
    for list in [\PolicyGroup.dryRunDeny, \.deny, \.dryRunAllow, \.allow] {
      applicable.forEach({ $0[keyPath: list] }) { compiled in
        let reason =
          switch compiled.source.scope {
          case .global: "applies to every workload"
          case .namespace: "applies to namespace \(compiled.source.namespace)"
          case .workloadSelector: "selects this workload"
          }
        found.append((compiled.source, reason))
      }
    }
    return (found, workload.authorizationPolicies.filter { self[$0] == nil })
  }
}
