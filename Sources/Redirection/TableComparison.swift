import Vocabulary

/// How a table differs from what is planned for it. Pure: a snapshot and a plan in, differences or edits out.
struct TableComparison {
  let plan: TablePlan
  /// Nil when the namespace does not have the table at all.
  let found: TableSnapshot?

  // MARK: Differences

  /// Everything that is not as planned: chains, rules by count, order and value, jumps by place and number. Foreign
  /// rules are no difference, except ahead of a jump of ours.
  var deviations: [RedirectionDeviation] {
    guard let found else {
      return plan.isEmpty ? [] : [deviation(nil, "the table is not there")]
    }
    let unplanned = found.chains.filter { chain in
      plan.scope.owns(chain.name) && !plan.chains.contains { $0.name == chain.name }
    }
    return plan.chains.flatMap { rules($0, found.chain($0.name)) }
      + unplanned.map { deviation($0.name, "the chain should not be there") }
      + found.chains.filter { !plan.scope.owns($0.name) }.flatMap(jumps)
      + plan.jumps.filter { found.chain($0.from) == nil }.map { deviation($0.from, "the built-in chain is not there") }
  }

  private func deviation(_ chain: ChainName?, _ difference: String) -> RedirectionDeviation {
    RedirectionDeviation(
      subject: chain.map { "\(plan.table) \($0)" } ?? "\(plan.table)", difference: difference)
  }

  private func rules(_ planned: PlannedChain, _ chain: TableSnapshot.Chain?) -> [RedirectionDeviation] {
    guard let chain else { return [deviation(planned.name, "the chain is missing")] }
    return (0..<max(planned.rules.count, chain.rules.count)).compactMap { index in
      let wanted = index < planned.rules.count ? planned.rules[index] : nil
      let present = index < chain.rules.count ? chain.rules[index] : nil
      switch (wanted, present) {
      case (let wanted?, let present?) where wanted.rule != present:
        return deviation(
          chain.name,
          "rule \(index + 1) is `\(present.text(in: chain.name))`, should be `\(wanted.rule.text(in: chain.name))`: "
            + wanted.reason)
      case (let wanted?, nil):
        return deviation(
          chain.name, "rule \(index + 1) `\(wanted.rule.text(in: chain.name))` is missing: \(wanted.reason)")
      case (nil, let present?):
        return deviation(
          chain.name, "rule \(index + 1) `\(present.text(in: chain.name))` should not be there")
      default: return nil
      }
    }
  }

  private func jumps(_ chain: TableSnapshot.Chain) -> [RedirectionDeviation] {
    let planned = plan.jump(from: chain.name)
    var differences: [RedirectionDeviation] = []
    var place: Int?
    for (index, rule) in chain.rules.enumerated() where plan.scope.entered(by: rule) {
      if let planned, place == nil, rule == .jump(to: planned.to) {
        place = index
      } else {
        differences.append(
          deviation(chain.name, "rule \(index + 1) `\(rule.text(in: chain.name))` should not be there"))
      }
    }
    guard let planned else { return differences }
    let text = Rule.jump(to: planned.to).text(in: chain.name)
    switch place {
    case let place? where chain.rules.prefix(place).allSatisfy(plan.scope.yields): break
    case let place?:
      differences.append(
        deviation(
          chain.name,
          "`\(text)` is rule \(place + 1), should be the first: \(place) "
            + "\(place == 1 ? "rule decides" : "rules decide") before it, beginning with "
            + "`\(chain.rules[0].text(in: chain.name))`"))
    case nil: differences.append(deviation(chain.name, "`\(text)` is missing: \(planned.reason)"))
    }
    return differences
  }

  // MARK: Edits

  /// What makes the table as planned, in an order libiptc accepts: chains lose their references before they go, and
  /// exist before something jumps to them. Empty when nothing differs. Foreign rules are not touched.
  var edits: [TableEdit] {
    guard let found, !deviations.isEmpty else { return [] }
    var edits: [TableEdit] = []
    for chain in found.chains where !plan.scope.owns(chain.name) {
      // From the last to the first, so that the numbers of those still to go stay right.
      for (index, rule) in chain.rules.enumerated().reversed() where plan.scope.entered(by: rule) {
        edits.append(.deleteRule(chain.name, index))
      }
    }
    let ours = found.chains.map(\.name).filter(plan.scope.owns)
    edits += ours.map(TableEdit.flush)
    edits += ours.map(TableEdit.deleteChain)
    edits += plan.chains.map { .createChain($0.name) }
    edits += plan.chains.flatMap { chain in chain.rules.map { .append(chain.name, $0.rule) } }
    edits += plan.jumps.map { jump in
      // Our own jumps are gone from the chain by now.
      let others = found.chain(jump.from)?.rules.filter { !plan.scope.entered(by: $0) } ?? []
      return .insert(jump.from, .jump(to: jump.to), at: others.prefix(while: plan.scope.yields).count)
    }
    return edits
  }
}

/// One change of a table.
enum TableEdit: Equatable, Sendable {
  /// Positions count from 0.
  case deleteRule(ChainName, Int)
  case flush(ChainName)
  case deleteChain(ChainName)
  case createChain(ChainName)
  case append(ChainName, Rule)
  case insert(ChainName, Rule, at: Int)
}
