import CLinux
import Glibc
import Linux
import Vocabulary

/// Reads and writes the route and the policy rule of the network namespace the calling thread is in.
struct PolicyRouting: ~Copyable {
  /// Copies of one object that removal takes away before it gives up.
  private static let maximumCopies = 64

  private var session: NetlinkSession
  private let loopback: UInt32

  /// Throws ``RedirectionError``.
  init() throws(RedirectionError) {
    let index = if_nametoindex("lo")
    guard index != 0 else { throw .netlinkFailed(SystemError("if_nametoindex", errno, subject: "lo")) }
    let session = try NetlinkSession()
    loopback = index
    self.session = session
  }

  private func route(_ family: IPAddress.Family) -> PolicyRoute { PolicyRoute(family: family, loopback: loopback) }

  // MARK: What is there

  /// What differs from "our default route wins in our table, and our rule is there once". Throws ``RedirectionError``.
  mutating func deviations(_ family: IPAddress.Family) throws(RedirectionError) -> [RedirectionDeviation] {
    var deviations: [RedirectionDeviation] = []
    let routes = try foundRoutes(family)
    if !Self.wins(routes) {
      let loses = routes.contains(where: \.isOurs)
      deviations.append(
        RedirectionDeviation(
          subject: "route \(family)",
          difference: "`\(Self.routeText(family))` \(loses ? "loses against another default route" : "is missing")"))
    }
    let rules = try countRules(family)
    if rules != 1 {
      deviations.append(
        RedirectionDeviation(
          subject: "rule \(family)",
          difference: "`\(Self.ruleText)` is there \(rules) times, should be once"))
    }
    return deviations
  }

  /// What is left where nothing should be. Throws ``RedirectionError``.
  mutating func leftovers(_ family: IPAddress.Family) throws(RedirectionError) -> [RedirectionDeviation] {
    var deviations: [RedirectionDeviation] = []
    if try foundRoutes(family).contains(where: \.isOurs) {
      deviations.append(
        RedirectionDeviation(
          subject: "route \(family)", difference: "`\(Self.routeText(family))` should not be there"))
    }
    if try countRules(family) > 0 {
      deviations.append(
        RedirectionDeviation(subject: "rule \(family)", difference: "`\(Self.ruleText)` should not be there"))
    }
    return deviations
  }

  /// True when the default route of our table with the lowest number, the one that counts, is ours.
  private static func wins(_ routes: [PolicyRoute.FoundRoute]) -> Bool {
    routes.min { $0.priority < $1.priority }?.isOurs ?? false
  }

  private mutating func foundRoutes(_ family: IPAddress.Family) throws(RedirectionError) -> [PolicyRoute.FoundRoute] {
    let route = route(family)
    var found: [PolicyRoute.FoundRoute] = []
    for message in try session.dump(NetlinkMessage.Kind.getRoute, route.routes) {
      if let place = try route.place(message) { found.append(place) }
    }
    return found
  }

  private mutating func countRules(_ family: IPAddress.Family) throws(RedirectionError) -> Int {
    let route = route(family)
    var count = 0
    for message in try session.dump(NetlinkMessage.Kind.getRule, route.rules) where try route.isOurs(message) {
      count += 1
    }
    return count
  }

  // MARK: Changing it

  /// Adds what is missing, family by family: that one family has it already says nothing about the other
  /// (redirection.md, limit 1). Gives what was written. Throws ``RedirectionError``.
  mutating func install(_ family: IPAddress.Family) throws(RedirectionError) -> [String] {
    let route = route(family)
    var changed: [String] = []
    if !Self.wins(try foundRoutes(family)) {
      let number = try session.change(
        NetlinkMessage.Kind.newRoute, flags: NetlinkMessage.Flag.create | NetlinkMessage.Flag.replace, route.route)
      try require(number, "add route", family)
      changed.append("route \(family)")
    }
    // The kernel takes a second copy from writers that do not ask it to refuse one.
    if try deleteRules(family, downTo: 1) { changed.append("rule \(family)") }
    if try countRules(family) == 0 {
      let number = try session.change(
        NetlinkMessage.Kind.newRule, flags: NetlinkMessage.Flag.create | NetlinkMessage.Flag.exclusive, route.rule)
      if number != EEXIST { try require(number, "add rule", family) }
      changed.append("rule \(family)")
    }
    return changed
  }

  /// Removes rule and route, all copies. Gives what was removed. Throws ``RedirectionError``.
  mutating func remove(_ family: IPAddress.Family) throws(RedirectionError) -> [String] {
    let route = route(family)
    var changed: [String] = []
    // The rule first: without it nothing looks into the table any more.
    if try deleteRules(family, downTo: 0) { changed.append("rule \(family)") }
    var left = Self.maximumCopies
    while left > 0, try foundRoutes(family).contains(where: \.isOurs) {
      let number = try session.change(NetlinkMessage.Kind.deleteRoute, flags: 0, route.route)
      if number != ESRCH { try require(number, "delete route", family) }
      left -= 1
    }
    if left < Self.maximumCopies { changed.append("route \(family)") }
    return changed
  }

  /// Deletes copies of our rule until `count` are left; false when there were no more to begin with.
  private mutating func deleteRules(_ family: IPAddress.Family, downTo count: Int) throws(RedirectionError) -> Bool {
    let rule = route(family).rule
    var left = Self.maximumCopies
    while left > 0, try countRules(family) > count {
      let number = try session.change(NetlinkMessage.Kind.deleteRule, flags: 0, rule)
      if number != ENOENT { try require(number, "delete rule", family) }
      left -= 1
    }
    return left < Self.maximumCopies
  }

  private func require(_ number: CInt, _ call: String, _ family: IPAddress.Family) throws(RedirectionError) {
    switch number {
    case 0: return
    case EPERM, EACCES: throw .notPermitted(subject: "IP\(family) policy routing")
    case ENETDOWN: throw .loopbackDown
    case EOPNOTSUPP, EAFNOSUPPORT: throw .policyRoutingMissing(family: family)
    default: throw .netlinkFailed(SystemError("netlink", number, subject: "\(call) IP\(family)"))
    }
  }

  // MARK: In words

  static func routeText(_ family: IPAddress.Family) -> String {
    switch family {
    case .v4: "local 0.0.0.0/0 dev lo scope host table \(MeshConstants.routeTable)"
    case .v6: "local ::/0 dev lo table \(MeshConstants.routeTable)"
    }
  }

  static let ruleText =
    "pref \(MeshConstants.rulePriority) fwmark 0x\(String(MeshConstants.towardsApplicationMark, radix: 16))"
    + "/0x\(String(MeshConstants.markMask, radix: 16)) lookup \(MeshConstants.routeTable)"

  /// The comment lines of a listing for what is there.
  mutating func text(_ family: IPAddress.Family) throws(RedirectionError) -> String {
    (Self.wins(try foundRoutes(family)) ? "# route: \(Self.routeText(family))\n" : "")
      + String(repeating: "# rule: \(Self.ruleText)\n", count: try countRules(family))
  }
}
