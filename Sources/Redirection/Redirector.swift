import Glibc
import Linux
import Vocabulary

/// Writes, proves and removes the redirection of network namespaces, through libiptc and rtnetlink.
///
/// All calls block; they may come from any thread. Tables are switched by the kernel as a whole, one after the other, in
/// an order that turns capture on last and off first (redirection.md §7). Calls on the same namespace from several
/// processes are kept apart by the lock, if they use the same path.
///
/// The namespace is trusted to be one that may be captured: nothing here stops a caller from naming the host's.
public struct Redirector: Sendable {
  private let lockPath: String
  private let lockTimeout: Duration

  /// - Parameters:
  ///   - lockPath: File of the lock, made when missing. A private one for pods, so that there is no contention with
  ///     programs that write the host's rules.
  ///   - lockTimeout: How long a call waits for the lock.
  public init(lockPath: String = "/run/ambient/xtables.lock", lockTimeout: Duration = .seconds(30)) {
    self.lockPath = lockPath
    self.lockTimeout = lockTimeout
  }

  /// Makes the namespace hold exactly what `settings` ask for, and proves it by reading everything back.
  ///
  /// Writes only tables, routes and rules that differ. Foreign rules stay. Recovers from any older or half-written state of
  /// ours. Throws ``RedirectionError``; the namespace must not be taken for captured then.
  public func apply(
    _ settings: RedirectionSettings, in namespace: NetworkNamespace
  ) throws(RedirectionError) -> RedirectionReport {
    try settings.validate()
    return try locked(namespace) { () throws(RedirectionError) in
      let support = try IPv6Support.read()
      var report = RedirectionReport(degradations: settings.ipv6 ? support.degradations : [])
      var routing = try PolicyRouting()
      for step in InstallStep.sequence(settings, support) {
        switch step {
        case .write(let plan):
          if try TableSession.write(plan) { report.changed.append("\(plan.table)") }
        case .sweep(let plan):
          if try sweep(plan) { report.changed.append("\(plan.table)") }
        case .route(let family): report.changed += try routing.install(family)
        case .unroute(let family): report.changed += try routing.remove(family)
        }
      }
      let deviations = try deviations(settings, support, &routing)
      if !deviations.isEmpty { throw .notProven(deviations) }
      return report
    }
  }

  /// What differs from what ``apply(_:in:)`` would make; empty when nothing does. Writes nothing. Throws
  /// ``RedirectionError`` when the namespace cannot be read.
  public func check(
    _ settings: RedirectionSettings, in namespace: NetworkNamespace
  ) throws(RedirectionError) -> [RedirectionDeviation] {
    try settings.validate()
    return try locked(namespace) { () throws(RedirectionError) in
      var routing = try PolicyRouting()
      return try deviations(settings, try IPv6Support.read(), &routing)
    }
  }

  /// Removes every chain of ours, every jump into one, our route and our rule, of both families, and proves it by
  /// reading back. Foreign rules stay. Stops at the first failure, so that nothing captured loses its way back while
  /// capture is still on; safe to repeat. Throws ``RedirectionError``.
  public func remove(from namespace: NetworkNamespace) throws(RedirectionError) -> RedirectionReport {
    try locked(namespace) { () throws(RedirectionError) in
      let families = try IPv6Support.read().families
      var report = RedirectionReport()
      var routing = try PolicyRouting()
      for name in TableName.removalOrder {
        for family in families {
          let plan = TablePlan(table: TableIdentity(family: family, name: name))
          if try sweep(plan) { report.changed.append("\(plan.table)") }
        }
        guard name == .nat else { continue }
        for family in families { report.changed += try routing.remove(family) }
      }
      var leftovers: [RedirectionDeviation] = []
      for family in families { leftovers += try self.leftovers(family, &routing) }
      if !leftovers.isEmpty { throw .notProven(leftovers) }
      return report
    }
  }

  /// What the namespace holds, ours and foreign, in `iptables-save` form without counters: IPv4 then IPv6, with our route
  /// and rule as comment lines. Throws ``RedirectionError``.
  public func current(in namespace: NetworkNamespace) throws(RedirectionError) -> String {
    try locked(namespace) { () throws(RedirectionError) in
      var routing = try PolicyRouting()
      var text = ""
      for family in try IPv6Support.read().families {
        text += Self.heading(family)
        for table in try TableSession.existing(family) { text += try TableSession.read(table).text }
        text += try routing.text(family)
      }
      return text
    }
  }

  /// What ``apply(_:in:)`` would make of an empty namespace, in the form of ``current(in:)``.
  public static func listing(_ settings: RedirectionSettings) -> String {
    (settings.ipv6 ? IPAddress.Family.allCases : [.v4]).map { family in
      heading(family)
        + RuleCatalogue(settings: settings, family: family).tables.filter { !$0.isEmpty }.map(\.snapshot.text).joined()
        + "# route: \(PolicyRouting.routeText(family))\n# rule: \(PolicyRouting.ruleText)\n"
    }.joined()
  }

  private static func heading(_ family: IPAddress.Family) -> String { "# IP\(family)\n" }

  // MARK: Inside the namespace

  /// Takes what is ours out of a table. A table that the namespace does not have is not made for that.
  private func sweep(_ plan: TablePlan) throws(RedirectionError) -> Bool {
    guard try TableSession.existing(plan.table.family).contains(plan.table) else { return false }
    return try TableSession.write(plan)
  }

  private func deviations(
    _ settings: RedirectionSettings, _ support: IPv6Support, _ routing: inout PolicyRouting
  ) throws(RedirectionError) -> [RedirectionDeviation] {
    var deviations: [RedirectionDeviation] = []
    for family in support.families {
      guard family == .v4 || settings.ipv6 else {
        deviations += try leftovers(family, &routing)
        continue
      }
      deviations += try differences(RuleCatalogue(settings: settings, family: family).tables, family)
      if support.hasRoutes(family) { deviations += try routing.deviations(family) }
    }
    return deviations
  }

  /// What is ours in a family that should have nothing of ours.
  private func leftovers(
    _ family: IPAddress.Family, _ routing: inout PolicyRouting
  ) throws(RedirectionError) -> [RedirectionDeviation] {
    try differences(RuleCatalogue.sweep(family), family) + routing.leftovers(family)
  }

  private func differences(
    _ plans: [TablePlan], _ family: IPAddress.Family
  ) throws(RedirectionError) -> [RedirectionDeviation] {
    let existing = try TableSession.existing(family)
    var differences: [RedirectionDeviation] = []
    for plan in plans {
      let found = existing.contains(plan.table) ? try TableSession.read(plan.table) : nil
      differences += TableComparison(plan: plan, found: found).deviations
    }
    return differences
  }

  private func locked<Result>(
    _ namespace: NetworkNamespace, _ body: () throws(RedirectionError) -> Result
  ) throws(RedirectionError) -> Result {
    // Before entering: the wait must not keep a thread inside a pod.
    let lock = try XtablesLock(path: lockPath, timeout: lockTimeout)
    defer { withExtendedLifetime(lock) {} }
    var outcome: Swift.Result<Result, RedirectionError>?
    do {
      try namespace.enter {
        outcome = Swift.Result(catching: body)
      }
    } catch {
      throw .namespace(error as? NetworkNamespaceError ?? .notPermitted(subject: "\(namespace.identity)"))
    }
    guard let outcome else { throw .namespace(.notPermitted(subject: "\(namespace.identity)")) }
    return try outcome.get()
  }
}
