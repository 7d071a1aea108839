import Linux
import Vocabulary

/// Lets the node's own processes, kubelet first of all, reach pods of the mesh past ztunnel, so that probes work under
/// strict mTLS (redirection.md §8): a set of the pods' addresses, and one rule that gives what a local process sends to
/// them the probe address as its source, which rule I1 in the pod lets through.
///
/// Everything is compared before it is changed, and nothing is flushed: there is no moment in which a running pod's probes
/// fail because the agent starts. All calls block; they may come from any thread.
public struct HostProbes: Sendable {
  private let settings: RedirectionSettings
  private let host: NetworkNamespace
  private let visit: NamespaceVisit

  /// - Parameters:
  ///   - host: The node's network namespace.
  ///   - lockPath: The lock that other writers of the node's rules use, too, such as kube-proxy (redirection.md §9.3
  ///     item 7): in a container, the node's file, mounted.
  public init(
    _ settings: RedirectionSettings, host: NetworkNamespace, lockPath: String = "/run/xtables.lock",
    lockTimeout: Duration = .seconds(30)
  ) {
    self.settings = settings
    self.host = host
    visit = NamespaceVisit(lockPath: lockPath, lockTimeout: lockTimeout)
  }

  /// One pod's address in the set.
  public struct Member: Hashable, Sendable {
    public var address: IPAddress
    /// The uid of the workload; nil for an element that nobody of the mesh made.
    public var owner: String?

    public init(address: IPAddress, owner: String?) {
      self.address = address
      self.owner = owner
    }
  }

  /// Makes sets and rule if they are not as they should be. Gives what was written: `set v4`, `nat`, `set v6`, `ip6 nat`.
  /// Throws ``RedirectionError``; ``RedirectionError/setsMissing`` where the kernel has no sets.
  public func install() throws(RedirectionError) -> [String] {
    try settings.validate()
    return try visit.enter(host) { () throws(RedirectionError) in
      var changed: [String] = []
      var sets = try AddressSets()
      for family in try families() {
        let set = AddressSet(family: family)
        if try sets.create(set) { changed.append("set \(family)") }
        let plan = try plan(family, sets.index(set))
        if try TableSession.write(plan) { changed.append("\(plan.table)") }
      }
      return changed
    }
  }

  /// What differs from what ``install()`` makes; empty when nothing does. Throws ``RedirectionError``.
  public func check() throws(RedirectionError) -> [RedirectionDeviation] {
    try settings.validate()
    return try visit.enter(host) { () throws(RedirectionError) in
      var deviations: [RedirectionDeviation] = []
      var sets = try AddressSets()
      for family in try families() {
        let set = AddressSet(family: family)
        guard try sets.members(set) != nil else {
          deviations.append(RedirectionDeviation(subject: "set \(family)", difference: "\(set.name) is not there"))
          continue
        }
        let plan = try plan(family, sets.index(set))
        let found = try TableSession.existing(family).contains(plan.table) ? try TableSession.read(plan.table) : nil
        deviations += TableComparison(plan: plan, found: found).deviations
      }
      return deviations
    }
  }

  /// Makes these addresses the workload's, and no others: those it has no more go, what belongs to others stays. True when
  /// that changed anything. Throws ``RedirectionError``.
  public func exempt(_ addresses: [IPAddress], of owner: String) throws(RedirectionError) -> Bool {
    try NamespaceVisit.enterWithoutLock(host) { () throws(RedirectionError) in
      var changed = false
      var sets = try AddressSets()
      for family in try families() {
        let set = AddressSet(family: family)
        let wanted = Set(addresses.map(\.canonical).filter { $0.family == family })
        for address in wanted where try sets.add(address, owner: owner, to: set) { changed = true }
        for member in try sets.members(set) ?? [] where member.owner == owner && !wanted.contains(member.address) {
          if try sets.remove(member.address, owner: owner, from: set) { changed = true }
        }
      }
      return changed
    }
  }

  /// Removes the members whose owner is not among these. Gives those removed. Throws ``RedirectionError``.
  public func keepOnly(_ owners: Set<String>) throws(RedirectionError) -> [Member] {
    try NamespaceVisit.enterWithoutLock(host) { () throws(RedirectionError) in
      var removed: [Member] = []
      var sets = try AddressSets()
      for family in try families() {
        let set = AddressSet(family: family)
        for member in try sets.members(set) ?? [] {
          guard let owner = member.owner, !owners.contains(owner) else { continue }
          if try sets.remove(member.address, owner: owner, from: set) {
            removed.append(Member(address: member.address, owner: owner))
          }
        }
      }
      return removed
    }
  }

  /// Who is in the sets. Throws ``RedirectionError``.
  public func members() throws(RedirectionError) -> [Member] {
    try NamespaceVisit.enterWithoutLock(host) { () throws(RedirectionError) in
      var members: [Member] = []
      var sets = try AddressSets()
      for family in try families() {
        members += try (sets.members(AddressSet(family: family)) ?? []).map {
          Member(address: $0.address, owner: $0.owner)
        }
      }
      return members
    }
  }

  /// Takes rule and sets away, in both families. Throws ``RedirectionError``.
  public func uninstall() throws(RedirectionError) -> [String] {
    try visit.enter(host) { () throws(RedirectionError) in
      var changed: [String] = []
      var sets = try AddressSets()
      for family in try IPv6Support.read().families {
        let table = TableIdentity(family: family, name: .nat)
        let plan = TablePlan(table: table, scope: .hostProbes)
        if try TableSession.existing(family).contains(table), try TableSession.write(plan) {
          changed.append("\(table)")
        }
        if try sets.destroy(AddressSet(family: family)) { changed.append("set \(family)") }
      }
      return changed
    }
  }

  private func families() throws(RedirectionError) -> [IPAddress.Family] {
    try IPv6Support.read().families.filter { $0 == .v4 || settings.ipv6 }
  }

  private func plan(_ family: IPAddress.Family, _ set: UInt16) -> TablePlan {
    TablePlan(
      table: TableIdentity(family: family, name: .nat), scope: .hostProbes,
      jumps: [.init(from: "POSTROUTING", to: .hostProbes, reason: "the probe address counts before any masquerading")],
      chains: [
        PlannedChain(
          name: .hostProbes,
          rules: [
            PlannedRule(
              identifier: "H1",
              rule: Rule(
                transport: .tcp, matches: [.sentByProcess, .destinationInSet(index: set)],
                target: .rewriteSource(settings.probeSource(family))),
              reason: "what the node's own processes send to pods of the mesh is taken for a probe")
          ])
      ])
  }
}
