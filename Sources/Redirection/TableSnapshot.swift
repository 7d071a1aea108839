import Vocabulary

/// What one table holds, ours and foreign.
struct TableSnapshot: Equatable, Sendable {
  var table: TableIdentity
  /// Built-in chains in hook order, then the others by name.
  var chains: [Chain]

  struct Chain: Equatable, Sendable {
    var name: ChainName
    /// Only built-in chains have one.
    var policy: String?
    var rules: [Rule]
  }

  func chain(_ name: ChainName) -> Chain? { chains.first { $0.name == name } }

  /// The table in `iptables-save` form, without counters.
  var text: String {
    let declarations = chains.map { ":\($0.name) \($0.policy ?? "-")" }
    let rules = chains.flatMap { chain in chain.rules.map { $0.text(in: chain.name) } }
    return (["*\(table.name.rawValue)"] + declarations + rules + ["COMMIT"]).joined(separator: "\n") + "\n"
  }
}

extension TablePlan {
  /// The table as it is when it holds this plan and nothing else.
  var snapshot: TableSnapshot {
    let builtIn: [ChainName] =
      switch table.name {
      case .raw: ["PREROUTING", "OUTPUT"]
      case .mangle: ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]
      case .nat: ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]
      case .filter: ["INPUT", "FORWARD", "OUTPUT"]
      }
    return TableSnapshot(
      table: table,
      chains: builtIn.map { name in
        TableSnapshot.Chain(name: name, policy: "ACCEPT", rules: jump(from: name).map { [.jump(to: $0.to)] } ?? [])
      }
        + chains.map { TableSnapshot.Chain(name: $0.name, policy: nil, rules: $0.rules.map(\.rule)) })
  }
}
