import HashTreeCollections
import Vocabulary

/// Policies by name and, compiled, by where they apply (policy.md §5).
struct PolicyStore: Sendable {
  private var byKey: TreeDictionary<String, CompiledPolicy> = [:]
  private var global = PolicyGroup()
  private var byNamespace: TreeDictionary<String, PolicyGroup> = [:]

  var count: Int { byKey.count }
  var all: some Collection<AuthorizationPolicy> { byKey.values.lazy.map(\.source) }

  subscript(key: String) -> AuthorizationPolicy? { byKey[key]?.source }

  /// False when the same policy is there already.
  mutating func insert(_ policy: AuthorizationPolicy) -> Bool {
    if byKey[policy.key]?.source == policy { return false }
    _ = remove(policy.key)
    let compiled = CompiledPolicy(policy)
    byKey[policy.key] = compiled
    switch policy.scope {
    case .global: global.insert(compiled)
    case .namespace: byNamespace[policy.namespace, default: PolicyGroup()].insert(compiled)
    case .workloadSelector: break
    }
    return true
  }

  /// False when there is no such policy.
  mutating func remove(_ key: String) -> Bool {
    guard let old = byKey[key] else { return false }
    byKey[key] = nil
    switch old.source.scope {
    case .global: global.remove(old)
    case .namespace:
      byNamespace[old.source.namespace]?.remove(old)
      if byNamespace[old.source.namespace]?.isEmpty == true { byNamespace[old.source.namespace] = nil }
    case .workloadSelector: break
    }
    return true
  }

  /// All that applies to a workload: global policies, those of its namespace, and those it lists.
  func applicable(to workload: Workload) -> ApplicablePolicies {
    var listed = PolicyGroup()
    var unknown: String?
    for key in workload.authorizationPolicies {
      guard let policy = byKey[key] else {
        unknown = unknown ?? key
        continue
      }
      // What applies by its scope is in one of the other groups, and once is enough.
      if !applies(byScope: policy.source, to: workload), !listed.contains(policy) { listed.insert(policy) }
    }
    return ApplicablePolicies(
      groups: (global, byNamespace[workload.namespace] ?? PolicyGroup(), listed), firstUnknown: unknown)
  }

  private func applies(byScope policy: AuthorizationPolicy, to workload: Workload) -> Bool {
    switch policy.scope {
    case .global: true
    case .namespace: policy.namespace == workload.namespace
    case .workloadSelector: false
    }
  }
}

/// Policies of one scope by what they do, each list ordered by name so that the policy reported for a refusal is always
/// the same one.
struct PolicyGroup: Sendable {
  private(set) var dryRunDeny: [CompiledPolicy] = []
  private(set) var deny: [CompiledPolicy] = []
  private(set) var dryRunAllow: [CompiledPolicy] = []
  private(set) var allow: [CompiledPolicy] = []

  var isEmpty: Bool { dryRunDeny.isEmpty && deny.isEmpty && dryRunAllow.isEmpty && allow.isEmpty }

  mutating func insert(_ policy: CompiledPolicy) {
    let list = Self.list(of: policy)
    let index = self[keyPath: list].firstIndex { policy.key < $0.key } ?? self[keyPath: list].endIndex
    self[keyPath: list].insert(policy, at: index)
  }

  func contains(_ policy: CompiledPolicy) -> Bool {
    self[keyPath: Self.list(of: policy)].contains { $0 === policy }
  }

  mutating func remove(_ policy: CompiledPolicy) {
    self[keyPath: Self.list(of: policy)].removeAll { $0.key == policy.key }
  }

  private static func list(of policy: CompiledPolicy) -> WritableKeyPath<PolicyGroup, [CompiledPolicy]> {
    switch (policy.source.action, policy.source.isDryRun) {
    case (.deny, true): \.dryRunDeny
    case (.deny, false): \.deny
    case (.allow, true): \.dryRunAllow
    case (.allow, false): \.allow
    }
  }
}

/// The policies one workload is subject to.
struct ApplicablePolicies: Sendable {
  let groups: (PolicyGroup, PolicyGroup, PolicyGroup)
  /// A policy the workload lists and nobody knows.
  let firstUnknown: String?

  func isEmpty(_ list: (PolicyGroup) -> [CompiledPolicy]) -> Bool {
    list(groups.0).isEmpty && list(groups.1).isEmpty && list(groups.2).isEmpty
  }

  func first(_ list: (PolicyGroup) -> [CompiledPolicy], where matches: (CompiledPolicy) -> Bool) -> CompiledPolicy? {
    list(groups.0).first(where: matches) ?? list(groups.1).first(where: matches)
      ?? list(groups.2).first(where: matches)
  }

  func forEach(_ list: (PolicyGroup) -> [CompiledPolicy], _ body: (CompiledPolicy) -> Void) {
    list(groups.0).forEach(body)
    list(groups.1).forEach(body)
    list(groups.2).forEach(body)
  }
}
