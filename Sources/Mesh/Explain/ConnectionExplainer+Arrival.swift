import Vocabulary

/// The inbound side: as the destination's ztunnel decides, with what is known of it here.
extension ConnectionExplainer {
  /// A tunnel straight to the destination.
  mutating func arrive(
    _ route: TunnelRoute, from identity: SPIFFEIdentity, _ sourceIP: IPAddress
  ) -> Explanation.Outcome {
    let destination = route.workload
    switch snapshot.inbound(
      to: destination, connectionIP: route.nextHop.ip, authority: Array(route.authority.description.utf8))
    {
    case .refused(let refusal):
      result.add(.inbound, .bad, refusal.summary, from: refusal.code)
      result.check(refusal.remedy)
      return .denied
    case .accepted(let inbound):
      result.add(
        .inbound, .neutral, "\(destination.namespace)/\(destination.name) takes it to \(inbound.target)",
        from: "workload \(destination.uid)")
      let isServed = explainServed(destination)
      let connection = ConnectionAttributes(
        sourceIP: sourceIP, destination: inbound.policyDestination, identity: identity)
      return explainPolicy(connection, destination) && isServed ? .allowedEncrypted : .denied
    }
  }

  /// Plaintext that reaches a pod: nobody has proven anything.
  mutating func arrivePlain(
    _ sourceIP: IPAddress, at address: SocketAddress, of destination: Workload
  ) -> Explanation.Outcome {
    let state = served.state(of: destination)
    let isCaptured =
      switch state {
      case .served, .pending: true
      case .absent: false
      case .otherNode: destination.tunnelProtocol == .hbone
      }
    guard isCaptured else {
      result.add(
        .inbound, .neutral, "\(destination.namespace)/\(destination.name) is not captured: no policy is asked",
        from: state == .absent ? "node agent, over ZDS" : "workload \(destination.uid): protocol TCP")
      return .allowedPlaintext
    }
    result.add(
      .inbound, .neutral,
      "\(destination.namespace)/\(destination.name) takes it as plaintext, from nobody in particular",
      from: "workload \(destination.uid)")
    let connection = ConnectionAttributes(sourceIP: sourceIP, destination: address)
    return explainPolicy(connection, destination) ? .allowedPlaintext : .denied
  }

  /// A connection that no ztunnel captures: it goes where it says, or where the cluster's own service routing takes it.
  mutating func followUncaptured(
    _ source: Workload, _ sourceIP: IPAddress, to target: SocketAddress
  ) -> Explanation.Outcome {
    result.add(.encrypted, .bad, "no: nobody captures the connection")
    let address = NetworkAddress(network: source.network, ip: target.ip)
    if let workload = snapshot.workload(at: address) { return arrivePlain(sourceIP, at: target, of: workload) }
    guard let service = snapshot.service(at: address, clientNamespace: source.namespace) else {
      result.add(.nextHop, .neutral, "\(target), which the mesh does not know")
      return .allowedPlaintext
    }
    result.add(.nextHop, .neutral, "a pod that the cluster's own routing chooses", from: "service \(service.key)")
    return arriveAtEach(of: service, port: target.port) { explainer, workload, address in
      explainer.arrivePlain(sourceIP, at: address, of: workload)
    }
  }

  /// Through a waypoint, which asks the destination in its own name.
  mutating func passWaypoint(_ route: TunnelRoute, _ target: SocketAddress) -> Explanation.Outcome {
    let waypoint = route.workload
    result.add(
      .inbound, .warning, "the waypoint applies its own (L7) policies, which are not known here",
      from: "workload \(waypoint.uid)")
    guard let waypointIP = waypoint.addresses.first else { return .unknown }
    result.add(.presented, .neutral, "\(waypoint.identity)", from: "from the waypoint on")
    let arrive = { (explainer: inout ConnectionExplainer, workload: Workload, address: SocketAddress) in
      guard workload.tunnelProtocol == .hbone else {
        explainer.result.add(
          .encrypted, .bad, "not from the waypoint on: the destination does not speak HBONE",
          from: "workload \(workload.uid): protocol TCP")
        return explainer.arrivePlain(waypointIP, at: address, of: workload)
      }
      let connection = ConnectionAttributes(sourceIP: waypointIP, destination: address, identity: waypoint.identity)
      let isAllowed = explainer.explainPolicy(connection, workload)
      return isAllowed ? Explanation.Outcome.allowedEncrypted : .denied
    }
    if let service = route.service { return arriveAtEach(of: service, port: target.port, arrive) }
    let address = NetworkAddress(network: snapshot.settings.network, ip: target.ip)
    guard let workload = snapshot.workload(at: address) else { return .unknown }
    return arrive(&self, workload, target)
  }

  /// Every endpoint of a service; those that fare like the first one are only counted.
  private mutating func arriveAtEach(
    of service: Service, port: UInt16,
    _ arrive: (inout ConnectionExplainer, Workload, SocketAddress) -> Explanation.Outcome
  ) -> Explanation.Outcome {
    let endpoints = snapshot.endpoints(of: service).sorted { $0.workload.uid < $1.workload.uid }
    var outcome: Explanation.Outcome?
    var alike = 0
    let looked = endpoints.prefix(Self.mostEndpoints)
    for endpoint in looked {
      let target = endpoint.ports[port] ?? service.ports[port] ?? port
      guard let ip = endpoint.workload.addresses.first else { continue }
      var other = self
      other.result = Explanation(question: "")
      let end = arrive(&other, endpoint.workload, SocketAddress(ip, target == 0 ? port : target))
      if let outcome, outcome == end {
        alike += 1
        continue
      }
      if outcome != nil { result.add(.note, .warning, "another endpoint fares differently: \(end.rawValue)") }
      result.lines += other.result.lines
      for check in other.result.checks { result.check(check) }
      if end.severity >= outcome?.severity ?? 0 { outcome = end }
      alike += 1
    }
    guard let outcome else {
      result.add(.nextHop, .bad, "no endpoint is ready", from: "service \(service.key)")
      result.check("check that pods of service \(service.key) are ready")
      return .denied
    }
    if looked.count > 1 {
      result.add(.note, .neutral, "\(looked.count) of \(endpoints.count) endpoints were looked at")
    }
    return outcome
  }

  /// False when nobody listens for it.
  private mutating func explainServed(_ destination: Workload) -> Bool {
    switch served.state(of: destination) {
    case .served, .otherNode: return true
    case .pending:
      result.add(.inbound, .bad, "ztunnel cannot serve the destination yet: connections are refused")
      result.check("look for \"pod cannot be served\" in ztunnel's log")
    case .absent:
      result.add(.inbound, .bad, "no node agent has handed the destination over: nobody listens on 15008 there")
      result.check("node-agent explain \(destination.namespace)/\(destination.name)")
    }
    return false
  }

  // MARK: Policy

  /// True when it is allowed.
  private mutating func explainPolicy(_ connection: ConnectionAttributes, _ destination: Workload) -> Bool {
    let (policies, unknown) = snapshot.policies.explained(for: destination)
    for (policy, reach) in policies {
      let explained = PolicyExplanation(policy, connection)
      let action = policy.action == .deny ? "DENY" : "ALLOW"
      let what =
        explained.matchingRule.map { "rule \($0) holds: \(explained.reason)" } ?? "no rule holds: \(explained.reason)"
      let mark: Explanation.Line.Mark =
        switch (policy.action, explained.matchingRule != nil, policy.isDryRun) {
        case (_, _, true), (_, false, _): .neutral
        case (.allow, true, _): .good
        case (.deny, true, _): .bad
        }
      result.add(
        policy.isDryRun ? .dryRun : .policy, mark, "\(policy.key) \(action) \(reach); \(what)",
        from: "policy \(policy.key)")
    }
    for key in unknown {
      result.add(.policy, .bad, "\(key) is named by the workload and not known", from: "workload \(destination.uid)")
    }
    if policies.isEmpty, unknown.isEmpty {
      result.add(.policy, .neutral, "none applies to \(destination.namespace)/\(destination.name)")
    }
    let decision = snapshot.evaluate(connection, destination: destination)
    for outcome in decision.dryRuns {
      result.add(.dryRun, .neutral, "\(outcome)", from: outcome.policy.map { "policy \($0)" })
    }
    result.add(.verdict, decision.isAllowed ? .good : .bad, "\(decision.verdict)", from: decision.rejection?.code)
    result.check(decision.rejection?.remedy)
    return decision.isAllowed
  }
}
