import Vocabulary

/// The tables this project may write. Their order here is the order of installing (redirection.md §7): capture comes on
/// last, when what its packets need is already there. `filter` never gets a rule, but may hold leftovers.
enum TableName: String, Hashable, Sendable, CaseIterable {
  case raw, mangle, nat, filter

  /// Removal turns capture off first.
  static let removalOrder: [TableName] = [.nat, .mangle, .raw, .filter]
}

/// One table of one family.
struct TableIdentity: Hashable, Sendable, CustomStringConvertible {
  var family: IPAddress.Family
  var name: TableName

  /// `nat`, `ip6 nat`.
  var description: String { family == .v4 ? name.rawValue : "ip6 \(name.rawValue)" }
}
