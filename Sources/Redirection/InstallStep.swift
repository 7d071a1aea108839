import Vocabulary

/// One step of installing. The order is the point: marks, zones and routes are there before the first packet is captured,
/// and what is no longer wanted goes after (redirection.md §7).
enum InstallStep: Equatable, Sendable {
  case write(TablePlan)
  case route(IPAddress.Family)
  /// Takes leftovers out of a table, if the namespace has the table.
  case sweep(TablePlan)
  case unroute(IPAddress.Family)

  static func sequence(_ settings: RedirectionSettings, _ support: IPv6Support) -> [InstallStep] {
    let wanted = support.families.filter { $0 == .v4 || settings.ipv6 }
    let plans = wanted.flatMap { RuleCatalogue(settings: settings, family: $0).tables }
    let written = plans.filter { !$0.isEmpty }
    return written.filter { $0.table.name != .nat }.map(InstallStep.write)
      + wanted.filter(support.hasRoutes).map(InstallStep.route)
      + written.filter { $0.table.name == .nat }.map(InstallStep.write)
      + plans.filter(\.isEmpty).map(InstallStep.sweep)
      + support.families.filter { !wanted.contains($0) }.flatMap { family in
        // Capture off first, then what captured connections needed.
        let sweeps = RuleCatalogue.sweep(family).map(InstallStep.sweep)
        return sweeps.prefix(1) + [.unroute(family)] + sweeps.dropFirst()
      }
  }
}
