import Vocabulary

/// Rules against what goes past ztunnel while capture has a hole, such as a `nat` table that somebody emptied: chains in
/// `mangle`, where a packet shows the interface and the port it really has. A pure function of settings, like
/// ``RuleCatalogue``.
///
/// A packet that would open a connection past ztunnel is dropped. Connection tracking forgets what is dropped before it has
/// left or arrived, so that the next attempt, a second later, is captured if capture is whole by then. What is forwarded for
/// a nested machine is left alone and counted, as is everything else that leaves and should not.
struct EscapeWatch {
  let settings: RedirectionSettings
  let family: IPAddress.Family

  /// What became of packets that capture missed.
  struct Reading: Equatable {
    /// They left.
    var escaped: UInt64 = 0
    /// They were dropped.
    var stopped: UInt64 = 0
  }

  /// How packets enter ``chains``.
  var jumps: [TablePlan.Jump] {
    (looksAtDepartures
      ? [.init(from: "POSTROUTING", to: .plaintextWatch, reason: "what leaves the pod is looked at where it leaves")]
      : [])
      + (stopsArrivals
        ? [.init(from: "INPUT", to: .arrivalWatch, reason: "what reaches a process of the pod is looked at before")]
        : [])
  }

  var chains: [PlannedChain] {
    (looksAtDepartures ? [PlannedChain(name: .plaintextWatch, rules: departures)] : [])
      + (stopsArrivals ? [PlannedChain(name: .arrivalWatch, rules: arrivals)] : [])
  }

  /// What the chains' rules have counted. `packets` gives the counts of a chain, rule by rule; a chain with other rules
  /// counts something else, and is repaired.
  func reading<Failure>(_ packets: (ChainName) throws(Failure) -> [UInt64]) throws(Failure) -> Reading {
    var reading = Reading()
    for chain in chains {
      let counts = try packets(chain.name)
      guard counts.count == chain.rules.count else { continue }
      for (rule, count) in zip(chain.rules, counts) {
        switch rule.rule.target {
        case .drop: reading.stopped &+= count
        case .fallThrough: reading.escaped &+= count
        default: break
        }
      }
    }
    return reading
  }

  private var stopsDepartures: Bool { settings.stopsEscapes && settings.tellsSenders }
  private var stopsArrivals: Bool { settings.stopsEscapes && !settings.bypassInboundCapture }
  private var looksAtDepartures: Bool { settings.countsEscapes || stopsDepartures }
  private var probes: ProbeConditions { ProbeConditions(settings: settings, family: family) }
  private var opens: Match { .tcp(PortMatch(opens: true)) }
  private var notFromProxy: Match { .mark(.notFromProxy) }

  private var departures: [PlannedRule] {
    [
      PlannedRule(
        identifier: "W1", rule: Rule(output: .loopback(inverted: false), target: .returnToCaller),
        reason: "loopback does not leave the pod; captured packets go to ztunnel through it")
    ]
      + probes.answering.map { rule in
        PlannedRule(identifier: "W2", rule: rule, reason: "what is sent to who probes is left alone")
      }
      + (stopsDepartures
        ? [
          PlannedRule(
            identifier: "W5",
            rule: Rule(transport: .tcp, matches: [opens, notFromProxy, .sentByProcess], target: .drop),
            reason: "no process of the pod opens a connection past ztunnel")
        ] : []) + (settings.countsEscapes ? counts : [])
  }

  private var counts: [PlannedRule] {
    [
      PlannedRule(
        identifier: "W3", rule: Rule(transport: .tcp, matches: [opens, notFromProxy], target: .fallThrough),
        reason: "counts connections that are opened past ztunnel"),
      PlannedRule(
        identifier: "W4",
        rule: Rule(
          transport: .tcp,
          matches: [.mark(.towardsApplication)],
          target: .fallThrough),
        reason: "counts the application's answers to ztunnel that leave instead of going back to it"),
    ]
  }

  private var arrivals: [PlannedRule] {
    [
      PlannedRule(
        identifier: "W6", rule: Rule(input: .loopback(inverted: false), target: .returnToCaller),
        reason: "ztunnel reaches the application through loopback")
    ]
      + probes.arriving.map { rule in
        PlannedRule(identifier: "W7", rule: rule, reason: "the host's probes reach the application directly")
      }
      + settings.rerouteInterfaces.map { interface in
        PlannedRule(
          identifier: "W8",
          rule: Rule(
            input: InterfaceMatch(interface), transport: .tcp,
            matches: [.tcp(PortMatch(destination: .only(MeshConstants.outboundPort)))], target: .returnToCaller),
          reason: "what a nested machine sends through \(interface) is captured as outbound traffic")
      }
      + [
        .toProxy(MeshConstants.inboundPlaintextPort, "W9"), .toProxy(MeshConstants.hbonePort, "W9"),
        PlannedRule(
          identifier: "W0", rule: Rule(transport: .tcp, matches: [opens], target: .drop),
          reason: "nobody reaches a process of the pod past ztunnel"),
      ]
  }
}
