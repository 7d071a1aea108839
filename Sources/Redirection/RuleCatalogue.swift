import Vocabulary

/// The rules of redirection.md §3, made from settings. A pure function: same settings, same tables.
struct RuleCatalogue {
  let settings: RedirectionSettings
  let family: IPAddress.Family

  /// The tables to be written, in the order of installing. `filter` and, without DNS capture, `raw` are empty plans: they
  /// are swept.
  var tables: [TablePlan] {
    TableName.allCases.map { name in
      let table = TableIdentity(family: family, name: name)
      switch name {
      case .raw: return settings.dnsCapture ? raw(table) : TablePlan(table: table)
      case .mangle: return mangle(table)
      case .nat: return nat(table)
      case .filter: return TablePlan(table: table)
      }
    }
  }

  /// Plans that only sweep, in the order of removing.
  static func sweep(_ family: IPAddress.Family) -> [TablePlan] {
    TableName.removalOrder.map { TablePlan(table: TableIdentity(family: family, name: $0)) }
  }

  private func plan(_ table: TableIdentity, output: [PlannedRule], prerouting: [PlannedRule]) -> TablePlan {
    TablePlan(
      table: table,
      jumps: [
        .init(from: "PREROUTING", to: .preroutingRules, reason: "packets that arrive meet the mesh's rules first"),
        .init(from: "OUTPUT", to: .outputRules, reason: "packets that leave meet the mesh's rules first"),
      ],
      chains: [
        PlannedChain(name: .outputRules, rules: output), PlannedChain(name: .preroutingRules, rules: prerouting),
      ])
  }

  private func raw(_ table: TableIdentity) -> TablePlan {
    plan(
      table,
      output: [
        PlannedRule(
          identifier: "Z1",
          rule: Rule(
            transport: .udp, matches: [.mark(.fromProxy), .udp(PortMatch(destination: .only(MeshConstants.dnsPort)))],
            target: .connectionZone(MeshConstants.dnsZone)),
          reason:
            "ztunnel's own DNS queries live in a zone of their own, where their ports cannot collide with those of "
            + "captured queries")
      ],
      prerouting: [
        PlannedRule(
          identifier: "Z2",
          rule: Rule(
            transport: .udp, matches: [.mark(.notFromProxy), .udp(PortMatch(source: .only(MeshConstants.dnsPort)))],
            target: .connectionZone(MeshConstants.dnsZone)),
          reason: "the answers to ztunnel's own DNS queries are looked up in the zone the queries were put into")
      ])
  }

  private func mangle(_ table: TableIdentity) -> TablePlan {
    var plan = marks(table)
    let watch = EscapeWatch(settings: settings, family: family)
    plan.jumps += watch.jumps
    plan.chains += watch.chains
    return plan
  }

  private func marks(_ table: TableIdentity) -> TablePlan {
    plan(
      table,
      output: [
        PlannedRule(
          identifier: "K2",
          rule: Rule(
            matches: [
              .connectionMark(.towardsApplication)
            ],
            target: .restoreMark(packetMask: .max, connectionMask: .max)),
          reason: "the application's replies get the mark by which policy routing brings them back to ztunnel")
      ],
      prerouting: [
        PlannedRule(
          identifier: "K1",
          rule: Rule(
            matches: [.mark(.fromProxy)],
            target: .setConnectionMark(value: MeshConstants.towardsApplicationMark, mask: MeshConstants.markMask)),
          reason: "remembers that ztunnel opened this connection towards the application, with the client's address")
      ])
  }

  private func nat(_ table: TableIdentity) -> TablePlan {
    plan(
      table,
      output: (settings.probeRecognition == .rewrittenSource ? [exemptProbeAnswers] : [])
        + (settings.dnsCapture ? captureDNS : []) + captureOutbound,
      prerouting: settings.rerouteInterfaces.flatMap(capture(from:))
        + (settings.bypassInboundCapture ? [] : captureInbound))
  }

  private var probe: AddressMatch { .host(settings.probeSource(family)) }
  private var probes: ProbeConditions { ProbeConditions(settings: settings, family: family) }
  private var notLoopback: AddressMatch { .host(.loopback(family), inverted: true) }

  private func capture(from interface: InterfaceName) -> [PlannedRule] {
    [
      PlannedRule(
        identifier: "V1",
        rule: Rule(
          input: InterfaceMatch(interface), transport: .tcp, target: .redirect(port: MeshConstants.outboundPort)),
        reason: "what a nested machine sends through \(interface) is outbound traffic"),
      PlannedRule(
        identifier: "V2",
        rule: Rule(input: InterfaceMatch(interface), transport: .tcp, target: .returnToCaller),
        reason: "traffic of \(interface) is never taken for inbound traffic"),
    ]
  }

  private var captureInbound: [PlannedRule] {
    probes.arriving.map { rule in
      var rule = rule
      // An empty comparison of ports is how the specification's listings have it.
      if settings.probeRecognition == .rewrittenSource { rule.matches = [.tcp(PortMatch())] }
      rule.target = .accept
      return PlannedRule(
        identifier: "I1", rule: rule,
        reason: "the host's probes reach the application directly, so that they work under strict mTLS")
    } + [
      PlannedRule(
        identifier: "I2",
        rule: Rule(
          destination: notLoopback, transport: .tcp,
          matches: [
            .tcp(PortMatch(destination: .only(MeshConstants.hbonePort, inverted: true))), .mark(.notFromProxy),
          ],
          target: .redirect(port: MeshConstants.inboundPlaintextPort)),
        reason:
          "inbound plaintext goes to ztunnel; HBONE finds its listener by itself, and ztunnel's own connections do "
          + "not loop")
    ]
  }

  private var exemptProbeAnswers: PlannedRule {
    PlannedRule(
      identifier: "O1",
      rule: Rule(destination: probe, transport: .tcp, matches: [.tcp(PortMatch())], target: .accept),
      reason: "what is sent towards the probe address is left alone")
  }

  private var captureDNS: [PlannedRule] {
    [
      PlannedRule(
        identifier: "D1",
        rule: Rule(
          output: .loopback(inverted: true), transport: .udp,
          matches: [.mark(.notFromProxy), .udp(PortMatch(destination: .only(MeshConstants.dnsPort)))],
          target: .redirect(port: MeshConstants.dnsCapturePort)),
        reason: "DNS queries over UDP to other than loopback resolvers are answered by ztunnel"),
      PlannedRule(
        identifier: "D2",
        rule: Rule(
          destination: notLoopback, transport: .tcp,
          matches: [.tcp(PortMatch(destination: .only(MeshConstants.dnsPort))), .mark(.notFromProxy)],
          target: .redirect(port: MeshConstants.dnsCapturePort)),
        reason: "DNS queries over TCP to other than loopback resolvers are answered by ztunnel"),
    ]
  }

  private var captureOutbound: [PlannedRule] {
    [
      PlannedRule(
        identifier: "O2",
        rule: Rule(
          transport: .tcp,
          matches: [.mark(.towardsApplication)],
          target: .accept),
        reason: "packets of connections that ztunnel opened are never captured"),
      PlannedRule(
        identifier: "O3",
        rule: Rule(destination: notLoopback, output: .loopback(inverted: false), target: .accept),
        reason: "the application calling its own address, and ztunnel calling the application, stay direct"),
      PlannedRule(
        identifier: "O4",
        rule: Rule(
          destination: notLoopback, transport: .tcp, matches: [.mark(.notFromProxy)],
          target: .redirect(port: MeshConstants.outboundPort)),
        reason: "outbound TCP goes to ztunnel, except ztunnel's own"),
    ]
  }
}
