import Vocabulary

/// The route that delivers everything in ``MeshConstants/routeTable`` locally, and the rule that sends marked packets
/// there (redirection.md §5), as rtnetlink messages. Pure.
struct PolicyRoute {
  let family: IPAddress.Family
  /// Index of `lo` in its namespace.
  let loopback: UInt32

  // MARK: Route: struct rtmsg is family, dst_len, src_len, tos, table, protocol, scope, type, flags (4)

  static let routeHeaderSize = 12

  private enum RouteAttribute {
    static let outputInterface: UInt16 = 4
    static let priority: UInt16 = 6
    static let table: UInt16 = 15
  }

  private static let boot: UInt8 = 3
  private static let hostScope: UInt8 = 254
  private static let local: UInt8 = 2

  /// The payload that adds or deletes the route.
  var route: [UInt8] {
    [
      UInt8(systemFamily(family)), 0, 0, 0, UInt8(MeshConstants.routeTable), Self.boot,
      // IPv6 routes have no scope.
      family == .v4 ? Self.hostScope : 0, Self.local, 0, 0, 0, 0,
    ] + NetlinkMessage.attribute(RouteAttribute.table, MeshConstants.routeTable)
      + NetlinkMessage.attribute(RouteAttribute.outputInterface, loopback)
  }

  /// The payload that lists all routes of the family.
  var routes: [UInt8] { [UInt8(systemFamily(family))] + Array(repeating: 0, count: Self.routeHeaderSize - 1) }

  /// What a listed route means to us; nil for one that is no default route of our table.
  func place(_ message: NetlinkMessage) throws(RedirectionError) -> FoundRoute? {
    guard message.kind == NetlinkMessage.Kind.newRoute else { return nil }
    guard let attributes = message.attributes(after: Self.routeHeaderSize) else {
      throw .netlinkMalformed(reason: "a route with an attribute longer than itself")
    }
    let header = message.payload
    let table = attributes[RouteAttribute.table]?.number(UInt32.self, at: 0) ?? UInt32(header[4])
    guard header[0] == UInt8(systemFamily(family)), table == MeshConstants.routeTable, header[1] == 0 else {
      return nil
    }
    let interface = attributes[RouteAttribute.outputInterface]?.number(UInt32.self, at: 0)
    return FoundRoute(
      priority: attributes[RouteAttribute.priority]?.number(UInt32.self, at: 0) ?? 0,
      isOurs: header[2] == 0 && header[3] == 0 && header[7] == Self.local && interface == loopback
        && (family == .v6 || header[6] == Self.hostScope))
  }

  /// A default route of our table.
  struct FoundRoute: Equatable {
    /// The lowest wins.
    var priority: UInt32
    var isOurs: Bool
  }

  // MARK: Rule: struct fib_rule_hdr is family, dst_len, src_len, tos, table, two reserved, action, flags (4)

  static let ruleHeaderSize = 12

  private enum RuleAttribute {
    static let priority: UInt16 = 6
    static let mark: UInt16 = 10
    static let suppressPrefixLength: UInt16 = 14
    static let table: UInt16 = 15
    static let mask: UInt16 = 16
    static let protocolOrigin: UInt16 = 21
  }

  private static let toTable: UInt8 = 1

  /// The payload that adds or deletes the rule.
  var rule: [UInt8] {
    [UInt8(systemFamily(family)), 0, 0, 0, UInt8(MeshConstants.routeTable), 0, 0, Self.toTable, 0, 0, 0, 0]
      + NetlinkMessage.attribute(RuleAttribute.priority, MeshConstants.rulePriority)
      + NetlinkMessage.attribute(RuleAttribute.mark, MeshConstants.towardsApplicationMark)
      + NetlinkMessage.attribute(RuleAttribute.mask, MeshConstants.markMask)
      + NetlinkMessage.attribute(RuleAttribute.table, MeshConstants.routeTable)
  }

  /// The payload that lists all rules of the family.
  var rules: [UInt8] { [UInt8(systemFamily(family))] + Array(repeating: 0, count: Self.ruleHeaderSize - 1) }

  /// True for a listed rule that is ours: these conditions and no others.
  func isOurs(_ message: NetlinkMessage) throws(RedirectionError) -> Bool {
    guard message.kind == NetlinkMessage.Kind.newRule else { return false }
    guard let attributes = message.attributes(after: Self.ruleHeaderSize) else {
      throw .netlinkMalformed(reason: "a policy rule with an attribute longer than itself")
    }
    let header = message.payload
    func value(_ type: UInt16) -> UInt32? { attributes[type]?.number(UInt32.self, at: 0) }
    let known: Set<UInt16> = [
      RuleAttribute.priority, RuleAttribute.mark, RuleAttribute.mask, RuleAttribute.table, RuleAttribute.protocolOrigin,
      RuleAttribute.suppressPrefixLength,
    ]
    // The kernel always lists "suppress nothing"; any other attribute is a further condition.
    guard attributes.keys.allSatisfy(known.contains), value(RuleAttribute.suppressPrefixLength) ?? .max == .max else {
      return false
    }
    let inverted: UInt8 = 0x02
    return header[0] == UInt8(systemFamily(family)) && header[1] == 0 && header[2] == 0 && header[3] == 0
      && header[7] == Self.toTable && header[8] & inverted == 0
      && value(RuleAttribute.table) ?? UInt32(header[4]) == MeshConstants.routeTable
      && value(RuleAttribute.priority) == MeshConstants.rulePriority
      && value(RuleAttribute.mark) == MeshConstants.towardsApplicationMark
      && value(RuleAttribute.mask) == MeshConstants.markMask
  }
}
