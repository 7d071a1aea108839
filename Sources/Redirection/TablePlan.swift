import Vocabulary

/// What one table is to hold of ours. Everything else in the table is foreign and stays.
struct TablePlan: Equatable, Sendable {
  var table: TableIdentity
  var scope = ChainScope.redirection
  /// Jumps from built-in chains, at most one each.
  var jumps: [Jump] = []
  /// Our chains, sorted by name.
  var chains: [PlannedChain] = []

  /// True when the table is only to be swept.
  var isEmpty: Bool { jumps.isEmpty && chains.isEmpty }

  /// The chain a built-in chain is to enter first.
  func jump(from chain: ChainName) -> Jump? { jumps.first { $0.from == chain } }

  /// The first rule of the built-in chain `from` enters `chain`; only a fence may stand before it.
  ///
  /// First, not last as the reference does (redirection.md, limit 2): a foreign ACCEPT ahead of the jump would let
  /// traffic out in plaintext, so whatever stands before it is reported, and repaired by moving the jump up again.
  struct Jump: Equatable, Sendable {
    var from: ChainName
    var to: ChainName
    var reason: String
  }
}

/// One of our chains.
struct PlannedChain: Equatable, Sendable {
  var name: ChainName
  var rules: [PlannedRule]
}

/// A rule and why it exists.
struct PlannedRule: Equatable, Sendable {
  /// The rule's name in redirection.md §3, such as `O4`.
  var identifier: String
  var rule: Rule
  var reason: String

  /// Lets a connection reach a port of ztunnel's.
  static func toProxy(_ port: UInt16, _ identifier: String) -> PlannedRule {
    PlannedRule(
      identifier: identifier,
      rule: Rule(
        transport: .tcp, matches: [.tcp(PortMatch(destination: .only(port)))], target: .returnToCaller),
      reason: "only ztunnel listens on \(port), and it decides by policy")
  }
}
