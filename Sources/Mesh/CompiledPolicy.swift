import Vocabulary

/// A policy prepared for checking: exact values in hash sets, no string built for a check, constant rules folded.
final class CompiledPolicy: Sendable {
  let source: AuthorizationPolicy
  let key: String
  /// Alternatives; a rule is all of its clauses, and a clause is any of its matches.
  private let rules: [[[CompiledMatch]]]

  init(_ policy: AuthorizationPolicy) {
    source = policy
    key = policy.key
    rules = policy.rules.compactMap { rule in
      var clauses: [[CompiledMatch]] = []
      for clause in rule.clauses where !clause.matches.isEmpty {
        let matches = clause.matches.filter { !$0.isEmpty }.map(CompiledMatch.init)
        // All of the clause's matches are empty, so the rule can never hold.
        if matches.isEmpty { return nil }
        clauses.append(matches)
      }
      return clauses
    }
  }

  func matches(_ connection: ConnectionAttributes) -> Bool {
    rules.contains { rule in
      rule.allSatisfy { clause in
        clause.contains { $0.holds(for: connection) }
      }
    }
  }
}

/// One match with at least one field (policy.md §3).
private struct CompiledMatch: Sendable {
  private let sourceIPs: RangeCondition
  private let destinationIPs: RangeCondition
  private let allowedPorts: Set<UInt16>
  private let excludedPorts: Set<UInt16>
  private let serviceAccounts: Set<AuthorizationPolicy.ServiceAccount>
  private let excludedServiceAccounts: Set<AuthorizationPolicy.ServiceAccount>
  private let principals: PrincipalMatcher
  private let excludedPrincipals: PrincipalMatcher
  private let namespaces: NamespaceMatcher
  private let excludedNamespaces: NamespaceMatcher

  init(_ match: AuthorizationPolicy.Match) {
    sourceIPs = RangeCondition(match.sourceIPs)
    destinationIPs = RangeCondition(match.destinationIPs)
    allowedPorts = Set(match.destinationPorts.values)
    excludedPorts = Set(match.destinationPorts.excluded)
    serviceAccounts = Set(match.serviceAccounts.values)
    excludedServiceAccounts = Set(match.serviceAccounts.excluded)
    principals = PrincipalMatcher(match.principals.values)
    excludedPrincipals = PrincipalMatcher(match.principals.excluded)
    namespaces = NamespaceMatcher(match.namespaces.values)
    excludedNamespaces = NamespaceMatcher(match.namespaces.excluded)
  }

  func holds(for connection: ConnectionAttributes) -> Bool {
    let port = connection.destination.port
    return (allowedPorts.isEmpty || allowedPorts.contains(port)) && !excludedPorts.contains(port)
      && destinationIPs.holds(for: connection.destination.ip) && sourceIPs.holds(for: connection.sourceIP)
      && holds(forIdentity: connection.identity) && holds(forNamespace: connection.identity?.namespace ?? "")
  }

  private func holds(forIdentity identity: SPIFFEIdentity?) -> Bool {
    guard let identity else { return serviceAccounts.isEmpty && principals.isEmpty }
    let account = AuthorizationPolicy.ServiceAccount(namespace: identity.namespace, name: identity.serviceAccount)
    return (serviceAccounts.isEmpty || serviceAccounts.contains(account))
      && !excludedServiceAccounts.contains(account)
      && (principals.isEmpty || principals.accepts(identity)) && !excludedPrincipals.accepts(identity)
  }

  private func holds(forNamespace namespace: String) -> Bool {
    (namespaces.isEmpty || namespaces.accepts(namespace)) && !excludedNamespaces.accepts(namespace)
  }
}

private struct RangeCondition: Sendable {
  let values: [IPPrefix]
  let excluded: [IPPrefix]

  init(_ condition: AuthorizationPolicy.Condition<IPPrefix>) {
    values = condition.values
    excluded = condition.excluded
  }

  func holds(for ip: IPAddress) -> Bool {
    (values.isEmpty || values.contains { $0.contains(ip) }) && !excluded.contains { $0.contains(ip) }
  }
}
