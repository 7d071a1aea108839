import Vocabulary

/// The outbound side: as the source's ztunnel decides.
extension ConnectionExplainer {
  /// Follows a captured connection to every endpoint that could be chosen.
  mutating func follow(_ source: Workload, _ sourceIP: IPAddress, to target: SocketAddress) -> Explanation.Outcome {
    let (choices, total) = choices(source, sourceIP, target)
    guard let first = choices.first else { return .unknown }
    for step in first.steps { result.add(.route, .neutral, "\(step)", from: "mesh") }
    var outcome = conclude(first.decision, source, sourceIP, target)
    // The others are told of only where they differ from the first one.
    var alike = 1
    for choice in choices.dropFirst() {
      var other = self
      other.result = Explanation(question: "")
      let end = other.conclude(choice.decision, source, sourceIP, target)
      guard end != outcome else {
        alike += 1
        continue
      }
      result.add(.note, .warning, "another endpoint fares differently: \(end.rawValue)")
      result.lines += other.result.lines
      for check in other.result.checks { result.check(check) }
      if end.severity > outcome.severity { outcome = end }
    }
    if choices.count > 1 {
      let unseen = total > choices.count ? ", \(total - choices.count) were not looked at" : ""
      result.add(.note, .neutral, "\(alike) of \(choices.count) endpoints fare alike\(unseen)")
    }
    return outcome
  }

  private struct Choice {
    var decision: OutboundDecision
    var steps: [RouteStep]
  }

  /// The decision once for each endpoint of the best rank: what has been chosen is taken out and it is asked again.
  private func choices(
    _ source: Workload, _ sourceIP: IPAddress, _ target: SocketAddress
  ) -> (choices: [Choice], total: Int) {
    var choices: [Choice] = []
    var excluded: Set<String> = []
    var wanted = 1
    while choices.count < min(wanted, Self.mostEndpoints) {
      var random = ExplainedRandom()
      let (decision, steps) = snapshot.explainRoute(
        from: source, sourceIP: sourceIP, to: target, excluding: excluded, using: &random)
      if choices.isEmpty {
        // The last choice is that of the next hop.
        for case .balanced(_, _, let candidates, _) in steps { wanted = candidates }
      }
      choices.append(Choice(decision: decision, steps: steps))
      guard let uid = decision.workload?.uid, excluded.insert(uid).inserted else { break }
    }
    return (choices.sorted { ($0.decision.workload?.uid ?? "") < ($1.decision.workload?.uid ?? "") }, wanted)
  }

  // MARK: Decisions

  private mutating func conclude(
    _ decision: OutboundDecision, _ source: Workload, _ sourceIP: IPAddress, _ target: SocketAddress
  ) -> Explanation.Outcome {
    switch decision {
    case .refused(let refusal):
      result.add(.route, .bad, refusal.summary, from: refusal.code)
      result.check(refusal.remedy)
      return .denied
    case .passthrough(let address, let service):
      let owner = service.map { "passthrough service \($0.key)" } ?? "nothing in the mesh has this address"
      result.add(.nextHop, .neutral, "\(address), as the application asked", from: owner)
      result.add(.encrypted, .bad, "no: who is there is not known to speak HBONE")
      result.check("if \(address.ip) should be in the mesh: check that its pod or service is known: ztunnel status")
      return .allowedPlaintext
    case .plain(let route):
      result.add(
        .nextHop, .neutral, "\(route.destination), \(route.workload.namespace)/\(route.workload.name)",
        from: "workload \(route.workload.uid)")
      result.add(
        .encrypted, .bad, "no: the destination does not speak HBONE",
        from: "workload \(route.workload.uid): protocol TCP")
      let name = "\(route.workload.namespace)/\(route.workload.name)"
      result.check("to encrypt, bring \(name) into the mesh: label istio.io/dataplane-mode=ambient")
      return arrivePlain(sourceIP, at: route.destination, of: route.workload)
    case .tunnel(let route):
      explainTunnel(route, source)
      return route.isViaWaypoint
        ? passWaypoint(route, target) : arrive(route, from: source.identity, sourceIP)
    case .doubleTunnel(let route):
      explainTunnel(route.outer, source)
      result.add(
        .expected, .neutral,
        "behind the gateway: \(route.innerExpectedIdentities.map(\.description).joined(separator: " or "))",
        from: "subjectAltNames of service \(route.service.key)")
      result.add(
        .inbound, .warning, "policy is evaluated on network \"\(route.workload.network)\", which is not seen here")
      result.check("ask the ztunnel of the destination's node on network \"\(route.workload.network)\"")
      return .unknown
    case .needsResolution(let resolution):
      result.add(
        .nextHop, .warning, "\(resolution.hostname), whose address is looked up when a connection is made",
        from: "workload \(resolution.workload.uid)")
      guard case .plain = resolution.hop.carriage else {
        result.add(.encrypted, .neutral, "yes, once the name has an address")
        result.check("check that \(resolution.hostname) resolves on this node")
        return .unknown
      }
      result.add(.encrypted, .bad, "no: the destination does not speak HBONE")
      return .allowedPlaintext
    }
  }

  private mutating func explainTunnel(_ route: TunnelRoute, _ source: Workload) {
    let kind = route.isViaWaypoint ? "waypoint " : ""
    result.add(
      .nextHop, .neutral,
      "\(route.nextHop), \(kind)\(route.workload.namespace)/\(route.workload.name), which is asked for \(route.authority)",
      from: "workload \(route.workload.uid)")
    result.add(.encrypted, .good, "yes: HBONE, HTTP/2 CONNECT over mutual TLS 1.3")
    result.add(
      .presented, .neutral, "\(source.identity)", from: "service account of \(source.namespace)/\(source.name)")
    let expected = route.expectedIdentities.prefix(4).map(\.description).joined(separator: " or ")
    let more = route.expectedIdentities.count > 4 ? " or \(route.expectedIdentities.count - 4) more" : ""
    result.add(
      .expected, .neutral, expected + more,
      from: "service account of \(route.workload.namespace)/\(route.workload.name)")
  }
}

extension OutboundDecision {
  /// What was chosen as the next hop.
  fileprivate var workload: Workload? {
    switch self {
    case .plain(let route): route.workload
    case .tunnel(let route): route.workload
    case .doubleTunnel(let route): route.outer.workload
    case .needsResolution(let resolution): resolution.workload
    case .passthrough, .refused: nil
    }
  }
}
