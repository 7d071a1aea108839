/// How an endpoint of a service is preferred (services.md §4).
public struct LoadBalancing: Hashable, Sendable {
  /// A property that a source and a candidate can have in common.
  public enum Scope: String, Hashable, Sendable, CaseIterable {
    case region, zone, subzone, node, cluster, network
  }

  /// What the preferences mean.
  public enum Mode: String, Hashable, Sendable, CaseIterable {
    /// Preferences are ignored.
    case standard
    /// Only candidates that match every preference.
    case strict
    /// The candidates that match the most leading preferences.
    case failover
    /// No selection: traffic goes to the address the client asked for.
    case passthrough
  }

  /// Which endpoints may be chosen.
  public enum HealthPolicy: String, Hashable, Sendable, CaseIterable {
    case onlyHealthy, allowAll
  }

  /// Each scope once: to prefer it a second time says nothing.
  public private(set) var preferences: [Scope]
  public var mode: Mode
  public var healthPolicy: HealthPolicy

  public init(preferences: [Scope] = [], mode: Mode = .standard, healthPolicy: HealthPolicy = .onlyHealthy) {
    var seen: Set<Scope> = []
    self.preferences = preferences.filter { seen.insert($0).inserted }
    self.mode = mode
    self.healthPolicy = healthPolicy
  }

  /// How many preferences `candidate` matches, and the rank that orders candidates (services.md §4).
  ///
  /// Matching stops at the first preference that differs, except that a candidate of another network skips a
  /// leading network preference and one of the same network is lifted above all of those.
  func rank(of candidate: Workload, for source: Workload) -> (rank: Int, matchesAll: Bool) {
    var matched = 0
    var bonus = 0
    for (index, scope) in preferences.enumerated() {
      let matches = scope.isShared(by: source, and: candidate)
      if index == 0, scope == .network {
        if matches { bonus = preferences.count - 1 } else { continue }
      }
      guard matches else { break }
      matched += 1
    }
    return (matched + bonus, matched == preferences.count)
  }
}

extension LoadBalancing.Scope {
  func isShared(by source: Workload, and candidate: Workload) -> Bool { value(of: source) == value(of: candidate) }

  /// What a workload has to have in common with another.
  func value(of workload: Workload) -> String {
    switch self {
    case .region: workload.record.locality.region
    case .zone: workload.record.locality.zone
    case .subzone: workload.record.locality.subzone
    case .node: workload.record.node
    case .cluster: workload.record.clusterID
    case .network: workload.record.network
    }
  }
}
