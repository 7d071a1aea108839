import Linux
import Vocabulary

/// Gives what the node's own processes send a hop limit of 255, which no other packet can have when it arrives in a pod:
/// what is routed has lost one at least, and what is bridged, also after the node's masquerading, is lowered here. So pods
/// can tell a probe without its source being rewritten, and without sets. See docs/architecture.md for why a peer cannot
/// make one.
///
/// All calls block; they may come from any thread.
public struct HopLimitMarks: Sendable {
  private let ipv6: Bool
  private let host: NetworkNamespace
  private let visit: NamespaceVisit

  /// - Parameters:
  ///   - host: The node's network namespace.
  ///   - lockPath: The lock that other writers of the node's rules use, too.
  public init(
    ipv6: Bool, host: NetworkNamespace, lockPath: String = "/run/xtables.lock", lockTimeout: Duration = .seconds(30)
  ) {
    self.ipv6 = ipv6
    self.host = host
    visit = NamespaceVisit(lockPath: lockPath, lockTimeout: lockTimeout)
  }

  /// Makes the rules if they are not as they should be. Gives what was written. Throws ``RedirectionError``.
  public func install() throws(RedirectionError) -> [String] {
    try visit.enter(host) { () throws(RedirectionError) in
      var changed: [String] = []
      for family in try IPv6Support.read().families where family == .v4 || ipv6 {
        let plan = Self.plan(family)
        if try TableSession.write(plan) { changed.append("\(plan.table)") }
      }
      return changed
    }
  }

  /// Takes them away, in both families. Throws ``RedirectionError``.
  public func uninstall() throws(RedirectionError) -> [String] {
    try visit.enter(host) { () throws(RedirectionError) in
      var changed: [String] = []
      for family in try IPv6Support.read().families {
        let table = TableIdentity(family: family, name: .mangle)
        guard try TableSession.existing(family).contains(table) else { continue }
        if try TableSession.write(TablePlan(table: table, scope: .hostProbes)) { changed.append("\(table)") }
      }
      return changed
    }
  }

  private static func plan(_ family: IPAddress.Family) -> TablePlan {
    let mark = ProbeRecognition.unforgeableHopLimit
    return TablePlan(
      table: TableIdentity(family: family, name: .mangle), scope: .hostProbes,
      jumps: [.init(from: "POSTROUTING", to: .hostProbes, reason: "who sent a packet is known where it leaves")],
      chains: [
        PlannedChain(
          name: .hostProbes,
          rules: [
            PlannedRule(
              identifier: "H2", rule: Rule(transport: .tcp, matches: [.sentByProcess], target: .setHopLimit(mark)),
              reason: "what the node's own processes send is known by its hop limit"),
            PlannedRule(
              identifier: "H3",
              rule: Rule(
                transport: .tcp, matches: [.forwarded, .hopLimit(mark, family)], target: .setHopLimit(mark - 1)),
              reason: "what a pod sends to another over a bridge keeps its hop limit, and must not look like it"),
          ])
      ])
  }
}
