import Vocabulary

/// What cuts a pod off that cannot be proven to be captured: two chains in `mangle`, where a packet that leaves shows the
/// interface it really leaves by. A pure function of settings, like ``RuleCatalogue``.
///
/// Passed is what cannot be plaintext of the application: loopback, host probes, and ztunnel's own traffic, so that
/// connections that ztunnel carries outlive a repair. A connection that went past ztunnel does not: none of its packets
/// leave. Who sets ztunnel's mark himself needs CAP_NET_ADMIN or CAP_NET_RAW in the pod, and would not be captured either.
struct Fence {
  let settings: RedirectionSettings
  let family: IPAddress.Family

  /// The plan that raises it.
  var plan: TablePlan {
    TablePlan(
      table: Self.table(family), scope: .fence,
      jumps: [
        .init(
          from: "INPUT", to: .fenceInput, reason: "nothing reaches a pod that is not proven, except through ztunnel"),
        .init(
          from: "POSTROUTING", to: .fenceOutput, reason: "nothing leaves a pod that is not proven, except ztunnel's"),
      ],
      chains: [PlannedChain(name: .fenceInput, rules: input), PlannedChain(name: .fenceOutput, rules: output)])
  }

  /// The plan that takes it down.
  static func lowered(_ family: IPAddress.Family) -> TablePlan { TablePlan(table: table(family), scope: .fence) }

  private static func table(_ family: IPAddress.Family) -> TableIdentity {
    TableIdentity(family: family, name: .mangle)
  }

  private var probes: ProbeConditions { ProbeConditions(settings: settings, family: family) }

  private var input: [PlannedRule] {
    [
      PlannedRule(
        identifier: "F1", rule: Rule(input: .loopback(inverted: false), target: .returnToCaller),
        reason: "loopback never leaves the pod; ztunnel reaches the application through it")
    ]
      + probes.arriving.map { rule in
        PlannedRule(
          identifier: "F2", rule: rule,
          reason: "the host's probes go on, so that the pod is not restarted while it is repaired")
      } + [
        .toProxy(MeshConstants.hbonePort, "F3"), .toProxy(MeshConstants.inboundPlaintextPort, "F4"),
        PlannedRule(
          identifier: "F5", rule: Rule(matches: [.answer], target: .returnToCaller),
          reason: "answers to what ztunnel sent; the application's own packets do not leave, so they have none"),
      ] + neighbours + [blocked]
  }

  private var output: [PlannedRule] {
    [
      PlannedRule(
        identifier: "F6", rule: Rule(output: .loopback(inverted: false), target: .returnToCaller),
        reason: "loopback never leaves the pod; what is captured goes to ztunnel through it")
    ]
      + probes.answering.map { rule in
        PlannedRule(identifier: "F7", rule: rule, reason: "answers to the host's probes")
      } + [
        PlannedRule(
          identifier: "F8",
          rule: Rule(
            matches: [.mark(.fromProxy)],
            target: .returnToCaller),
          reason: "ztunnel's own traffic has its policy already")
      ] + neighbours + [blocked]
  }

  /// IPv6 finds its neighbours with ICMP. ICMP is never captured (redirection.md §3).
  private var neighbours: [PlannedRule] {
    guard family == .v6 else { return [] }
    return [
      PlannedRule(
        identifier: "F9", rule: Rule(transport: ProtocolMatch(number: 58), target: .returnToCaller),
        reason: "without neighbour discovery not even ztunnel could send")
    ]
  }

  private var blocked: PlannedRule {
    PlannedRule(
      identifier: "F10", rule: Rule(target: .drop), reason: "what is not proven to be captured does not pass")
  }
}
