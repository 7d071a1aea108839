import Vocabulary

extension MeshSnapshot {
  /// Decides whether `connection` may reach `destination` (policy.md §6).
  ///
  /// Dry-run outcomes are collected up to the point where an enforced policy decides. A policy that the workload lists
  /// and that is not known denies, after explicit denials and before anything can allow.
  public func evaluate(_ connection: ConnectionAttributes, destination: Workload) -> PolicyDecision {
    let policies = policies.applicable(to: destination)
    var dryRuns: [DryRunOutcome] = []

    policies.forEach(\.dryRunDeny) { policy in
      if policy.matches(connection) { dryRuns.append(.denyPolicyMatched(policy.key)) }
    }
    if let policy = policies.first(\.deny, where: { $0.matches(connection) }) {
      return PolicyDecision(verdict: .deny(.explicitlyDenied(by: policy.key)), dryRuns: dryRuns)
    }
    if let key = policies.firstUnknown {
      return PolicyDecision(verdict: .deny(.unknownPolicy(key)), dryRuns: dryRuns)
    }

    var isAnyDryRunAllowed = false
    policies.forEach(\.dryRunAllow) { policy in
      if policy.matches(connection) {
        isAnyDryRunAllowed = true
        dryRuns.append(.allowPolicyMatched(policy.key))
      }
    }
    if policies.isEmpty(\.allow) {
      if !isAnyDryRunAllowed, !policies.isEmpty(\.dryRunAllow) { dryRuns.append(.noAllowPolicyMatched) }
      return PolicyDecision(verdict: .allow(.noAllowPolicies), dryRuns: dryRuns)
    }
    if let policy = policies.first(\.allow, where: { $0.matches(connection) }) {
      return PolicyDecision(verdict: .allow(.allowed(by: policy.key)), dryRuns: dryRuns)
    }
    return PolicyDecision(verdict: .deny(.notAllowed), dryRuns: dryRuns)
  }
}
