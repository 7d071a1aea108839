import Testing
import Vocabulary

@testable import Redirection

@Suite("Comparing a table with its plan")
struct TableComparisonTests {
  private let plan = RuleCatalogue(settings: RedirectionSettings(), family: .v4).tables[2]

  private let foreign = Rule(transport: .udp, target: .accept)

  private func comparison(_ change: (inout TableSnapshot) -> Void) -> TableComparison {
    var found = plan.snapshot
    change(&found)
    return TableComparison(plan: plan, found: found)
  }

  private func index(_ name: ChainName, _ found: TableSnapshot) -> Int {
    found.chains.firstIndex { $0.name == name } ?? 0
  }

  @Test("finds nothing in a table that is as planned")
  func same() {
    let comparison = comparison { _ in }
    #expect(comparison.deviations.isEmpty)
    #expect(comparison.edits.isEmpty)
  }

  @Test("ignores foreign chains and foreign rules behind the jump")
  func foreignBehind() {
    let comparison = comparison { found in
      found.chains[index("OUTPUT", found)].rules.append(foreign)
      found.chains.append(.init(name: "KUBE-X", policy: nil, rules: [foreign]))
    }
    #expect(comparison.deviations.isEmpty)
  }

  @Test("reports a foreign rule ahead of the jump, and moves only the jump")
  func foreignAhead() {
    let comparison = comparison { found in found.chains[index("OUTPUT", found)].rules.insert(foreign, at: 0) }
    #expect(
      comparison.deviations.map(\.description) == [
        "nat OUTPUT: `-A OUTPUT -j ISTIO_OUTPUT` is rule 2, should be the first: 1 rule decides before it, beginning with "
          + "`-A OUTPUT -p udp -j ACCEPT`"
      ])
    #expect(comparison.edits.first == .deleteRule("PREROUTING", 0))
    #expect(comparison.edits.dropFirst().first == .deleteRule("OUTPUT", 1))
    #expect(comparison.edits.last == .insert("OUTPUT", .jump(to: "ISTIO_OUTPUT"), at: 0))
    #expect(
      comparison.edits.filter { if case .deleteRule = $0 { true } else { false } }.count == 2,
      "nothing but the two jumps is deleted")
  }

  @Test("reports a missing, doubled, misdirected, conditional or goto jump")
  func jumps() {
    let wrong: [[Rule]] = [
      [], [.jump(to: "ISTIO_OUTPUT"), .jump(to: "ISTIO_OUTPUT")], [.jump(to: "ISTIO_PRERT")],
      [Rule(transport: .udp, target: .jump("ISTIO_OUTPUT", isGoto: false))],
      [Rule(target: .jump("ISTIO_OUTPUT", isGoto: true))],
    ]
    for rules in wrong {
      let comparison = comparison { found in found.chains[index("OUTPUT", found)].rules = rules }
      #expect(!comparison.deviations.isEmpty, "\(rules)")
      #expect(comparison.deviations.allSatisfy { $0.subject == "nat OUTPUT" })
    }
  }

  @Test("reports a jump into our chains from where none should be")
  func strayJump() {
    let comparison = comparison { found in
      found.chains[index("INPUT", found)].rules = [.jump(to: "ISTIO_OUTPUT")]
    }
    #expect(comparison.deviations.map(\.subject) == ["nat INPUT"])
    #expect(comparison.edits.contains(.deleteRule("INPUT", 0)))
  }

  @Test("reports a missing chain, an extra chain, and a missing, extra or changed rule")
  func chains() {
    let changes: [(inout TableSnapshot) -> Void] = [
      { $0.chains.removeAll { $0.name == "ISTIO_OUTPUT" } },
      { $0.chains.append(.init(name: "ISTIO_REDIRECT", policy: nil, rules: [])) },
      { $0.chains[4].rules.removeLast() },
      { $0.chains[4].rules.append(Rule(target: .accept)) },
      { $0.chains[4].rules.swapAt(0, 1) },
      { $0.chains[4].rules[3].target = .redirect(port: 15002) },
    ]
    for (number, change) in changes.enumerated() {
      var found = plan.snapshot
      change(&found)
      let comparison = TableComparison(plan: plan, found: found)
      #expect(!comparison.deviations.isEmpty, "change \(number)")
      #expect(!comparison.edits.isEmpty, "change \(number)")
    }
  }

  @Test("says why a missing rule matters")
  func reason() {
    let comparison = comparison { $0.chains[4].rules.removeLast() }
    #expect(comparison.deviations.first?.difference.contains("outbound TCP goes to ztunnel") == true)
  }

  @Test("takes a table that is not there for empty")
  func missingTable() {
    #expect(TableComparison(plan: plan, found: nil).deviations.map(\.description) == ["nat: the table is not there"])
    #expect(TableComparison(plan: TablePlan(table: plan.table), found: nil).deviations.isEmpty)
  }

  @Test("sweeps everything of ours, with references gone before chains")
  func sweep() {
    let edits = TableComparison(plan: TablePlan(table: plan.table), found: plan.snapshot).edits
    #expect(
      edits == [
        .deleteRule("PREROUTING", 0), .deleteRule("OUTPUT", 0), .flush("ISTIO_OUTPUT"), .flush("ISTIO_PRERT"),
        .deleteChain("ISTIO_OUTPUT"), .deleteChain("ISTIO_PRERT"),
      ])
  }
}
