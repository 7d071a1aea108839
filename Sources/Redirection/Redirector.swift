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
  private let visit: NamespaceVisit

  /// - Parameters:
  ///   - lockPath: File of the lock, made when missing. Nil: one for each namespace, so that no pod waits for another,
  ///     nor for programs that write the host's rules.
  ///   - lockTimeout: How long a call waits for the lock.
  public init(lockPath: String? = nil, lockTimeout: Duration = .seconds(30)) {
    visit = NamespaceVisit(lockPath: lockPath, lockTimeout: lockTimeout)
  }

  /// Whether this kernel can tell what the pod's own processes send (`xt_owner`). Where it cannot,
  /// ``RedirectionSettings/stopsEscapes`` stops only what comes in.
  public static var tellsSenders: Bool { KernelExtensions.knowsSenders }

  /// Makes the namespace hold exactly what `settings` ask for, and proves it by reading everything back.
  ///
  /// Writes only tables, routes and rules that differ. Foreign rules stay. Recovers from any older or half-written state of
  /// ours. Throws ``RedirectionError``; the namespace must not be taken for captured then.
  public func apply(
    _ settings: RedirectionSettings, in namespace: NetworkNamespace
  ) throws(RedirectionError) -> RedirectionReport {
    let settings = try settings.ofThisKernel()
    return try visit.enter(namespace) { () throws(RedirectionError) in
      let support = try IPv6Support.read()
      var report = RedirectionReport(degradations: settings.ipv6 ? support.degradations : [])
      var routing = try PolicyRouting()
      for step in InstallStep.sequence(settings, support) {
        switch step {
        case .write(let plan):
          if plan.table.name == .nat { FaultPoint.reached("rules-without-capture") }
          if try TableSession.write(plan) { report.changed.append("\(plan.table)") }
        case .sweep(let plan):
          if try sweep(plan) { report.changed.append("\(plan.table)") }
        case .route(let family): report.changed += try routing.install(family)
        case .unroute(let family): report.changed += try routing.remove(family)
        }
      }
      // Only now that ours are in force, so that there is no moment without any; connections that are open keep their
      // translation, which conntrack holds.
      if try NFTables.sweep() { report.changed.append("nftables") }
      let deviations = try deviations(settings, support, &routing)
      if !deviations.isEmpty { throw .notProven(deviations) }
      return report
    }
  }

  /// Looks at everything that has to be in place for the pod to be served, in one visit. Writes nothing. Throws
  /// ``RedirectionError`` when the namespace cannot be read; it must not be taken for captured then.
  public func prove(
    _ settings: RedirectionSettings, in namespace: NetworkNamespace
  ) throws(RedirectionError) -> NamespaceProof {
    let settings = try settings.ofThisKernel()
    return try visit.enter(namespace) { () throws(RedirectionError) in
      let support = try IPv6Support.read()
      var routing = try PolicyRouting()
      let deviations = try deviations(settings, support, &routing)
      var listeners: Set<UInt16>?
      // A kernel without sock_diag says nothing against the pod: then ztunnel's word has to do.
      do { listeners = try MeshListeners.ports() } catch {}
      let reading = try escapes(settings, support)
      return NamespaceProof(
        deviations: deviations, isFenced: try isFenced(settings, support), listeners: listeners,
        escaped: settings.countsEscapes ? reading.escaped : nil,
        stopped: settings.stopsEscapes ? reading.stopped : nil)
    }
  }

  /// Cuts the namespace off, except for loopback, host probes and ztunnel; see ``Fence``. True when that took a write.
  /// Throws ``RedirectionError``.
  public func raiseFence(
    _ settings: RedirectionSettings, in namespace: NetworkNamespace
  ) throws(RedirectionError) -> Bool {
    try settings.validate()
    return try visit.enter(namespace) { () throws(RedirectionError) in
      var wrote = false
      for family in try IPv6Support.read().families {
        if try TableSession.write(Fence(settings: settings, family: family).plan) { wrote = true }
      }
      return wrote
    }
  }

  /// Takes the fence down. True when there was one. Throws ``RedirectionError``.
  public func lowerFence(in namespace: NetworkNamespace) throws(RedirectionError) -> Bool {
    try visit.enter(namespace) { () throws(RedirectionError) in try lowerFence(try IPv6Support.read()) }
  }

  /// What differs from what ``apply(_:in:)`` would make; empty when nothing does. Writes nothing. Throws
  /// ``RedirectionError`` when the namespace cannot be read.
  public func check(
    _ settings: RedirectionSettings, in namespace: NetworkNamespace
  ) throws(RedirectionError) -> [RedirectionDeviation] {
    let settings = try settings.ofThisKernel()
    return try visit.enter(namespace) { () throws(RedirectionError) in
      var routing = try PolicyRouting()
      return try deviations(settings, try IPv6Support.read(), &routing)
    }
  }

  /// Removes every chain of ours, every jump into one, our route and our rule, of both families, and proves it by
  /// reading back. Foreign rules stay. Stops at the first failure, so that nothing captured loses its way back while
  /// capture is still on; safe to repeat. Throws ``RedirectionError``.
  public func remove(from namespace: NetworkNamespace) throws(RedirectionError) -> RedirectionReport {
    try visit.enter(namespace) { () throws(RedirectionError) in
      let support = try IPv6Support.read()
      let families = support.families
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
      if try NFTables.sweep() { report.changed.append("nftables") }
      // The fence goes last: until then nothing that is only half removed lets anything out.
      if try lowerFence(support) { report.changed.append("fence") }
      var leftovers: [RedirectionDeviation] = []
      for family in families { leftovers += try self.leftovers(family, &routing) }
      leftovers += try NFTables.leftovers()
      if !leftovers.isEmpty { throw .notProven(leftovers) }
      return report
    }
  }

  /// What the namespace holds, ours and foreign, in `iptables-save` form without counters: IPv4 then IPv6, with our route
  /// and rule as comment lines. Throws ``RedirectionError``.
  public func current(in namespace: NetworkNamespace) throws(RedirectionError) -> String {
    try visit.enter(namespace) { () throws(RedirectionError) in
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
    return deviations + (try NFTables.leftovers())
  }

  private func isFenced(_ settings: RedirectionSettings, _ support: IPv6Support) throws(RedirectionError) -> Bool {
    for family in support.families
    where try !differences([Fence(settings: settings, family: family).plan], family).isEmpty { return false }
    return true
  }

  private func lowerFence(_ support: IPv6Support) throws(RedirectionError) -> Bool {
    var wrote = false
    for family in support.families where try sweep(Fence.lowered(family)) { wrote = true }
    return wrote
  }

  /// What the watch has counted, in both families.
  private func escapes(
    _ settings: RedirectionSettings, _ support: IPv6Support
  ) throws(RedirectionError) -> EscapeWatch.Reading {
    var sum = EscapeWatch.Reading()
    for family in support.families {
      let watch = EscapeWatch(settings: settings, family: family)
      let table = TableIdentity(family: family, name: .mangle)
      guard !watch.chains.isEmpty, try TableSession.existing(family).contains(table) else { continue }
      let reading = try watch.reading { chain throws(RedirectionError) in
        try TableSession.packets(chain, in: table)
      }
      sum.escaped &+= reading.escaped
      sum.stopped &+= reading.stopped
    }
    return sum
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
}
