import Vocabulary

extension MeshSnapshot {
  /// What would become of a connection, decision by decision, from the router and the policy evaluator that the data
  /// path uses.
  ///
  /// Every endpoint that could be chosen is looked at, up to a bound; the worst of them counts. What lies on other
  /// nodes is explained with what is known of it here.
  public func explain(
    _ question: ConnectionQuestion, served: ServedPods = ServedPods(), clusterDomain: String = "cluster.local"
  ) -> Explanation {
    var explainer = ConnectionExplainer(snapshot: self, served: served, clusterDomain: clusterDomain, question)
    explainer.run()
    return explainer.result
  }
}

/// Draws the same lots every time, so that two explanations of one question can be compared (SplitMix64).
struct ExplainedRandom: RandomNumberGenerator {
  private var state: UInt64 = 0

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}

/// Follows one connection from the pod to the far application.
struct ConnectionExplainer {
  let snapshot: MeshSnapshot
  let served: ServedPods
  let clusterDomain: String
  let question: ConnectionQuestion
  var result: Explanation

  /// Endpoints looked at for one question.
  static let mostEndpoints = 256

  init(snapshot: MeshSnapshot, served: ServedPods, clusterDomain: String, _ question: ConnectionQuestion) {
    self.snapshot = snapshot
    self.served = served
    self.clusterDomain = clusterDomain
    self.question = question
    result = Explanation(question: question.description)
  }

  mutating func run() {
    guard let source = findSource() else { return }
    guard let sourceIP = source.addresses.first else {
      result.add(.source, .bad, "the workload has no address", from: "workload \(source.uid)")
      result.check("check that the pod runs: \(question.namespace)/\(question.pod)")
      return
    }
    let isCaptured = explainCapture(of: source)
    guard let targets = resolveTarget(for: source) else { return }
    var outcomes: [Explanation.Outcome] = []
    for target in targets {
      if targets.count > 1 { result.add(.note, .neutral, "for \(target), one of \(targets.count) addresses") }
      outcomes.append(
        isCaptured
          ? follow(source, sourceIP, to: target) : followUncaptured(source, sourceIP, to: target))
    }
    result.outcome = outcomes.max { $0.severity < $1.severity } ?? .unknown
    // Whatever would be decided, nobody is there to decide it.
    if served.state(of: source) == .pending { result.outcome = .denied }
  }

  // MARK: The pod

  private mutating func findSource() -> Workload? {
    let namesakes = snapshot.workloads.values.filter {
      $0.namespace == question.namespace && ($0.name == question.pod)
    }
    // Of several, such as one in each cluster, this node's comes first.
    let found = namesakes.min { (rank($0), $0.uid) < (rank($1), $1.uid) }
    if let found {
      let address = found.addresses.first.map { "\($0)" } ?? "no address"
      result.add(
        .source, .neutral,
        "\(found.namespace)/\(found.name) at \(address)\(found.node.isEmpty ? "" : " on node \(found.node)")",
        from: "workload \(found.uid)")
      if namesakes.count > 1 { result.add(.note, .neutral, "\(namesakes.count) workloads have this name") }
      return found
    }
    result.add(.source, .bad, "no workload \(question.namespace)/\(question.pod) is known here")
    let near = snapshot.workloads.values
      .filter { $0.namespace == question.namespace && $0.name.hasPrefix(question.pod) }
      .map(\.name).sorted().prefix(5)
    if near.isEmpty {
      result.check("check the spelling, and that the control plane sends the pod: ztunnel status")
    } else {
      result.check("meant was perhaps \(near.map { "\(question.namespace)/\($0)" }.joined(separator: ", "))")
    }
    return nil
  }

  private func rank(_ workload: Workload) -> Int { served.node == workload.node ? 0 : 1 }

  private mutating func explainCapture(of source: Workload) -> Bool {
    switch served.state(of: source) {
    case .served:
      result.add(.captured, .good, "yes: this ztunnel serves the pod", from: "node agent, over ZDS")
      return true
    case .pending:
      result.add(.captured, .bad, "yes, but ztunnel cannot serve it: its connections are refused", from: "node agent")
      result.check(
        "look for \"pod cannot be served\" in ztunnel's log; node-agent explain \(question.namespace)/\(question.pod)")
      return true
    case .absent:
      result.add(
        .captured, .bad, "no: it is on this node, and no node agent has handed it over; it sends plaintext",
        from: "node agent, over ZDS")
      result.check("node-agent explain \(question.namespace)/\(question.pod)")
      return false
    case .otherNode where source.tunnelProtocol == .hbone:
      result.add(
        .captured, .neutral, "by the ztunnel of its own node, as the mesh says that it speaks HBONE",
        from: "workload \(source.uid): protocol HBONE")
      return true
    case .otherNode:
      result.add(
        .captured, .bad, "no: the mesh says that it does not speak HBONE; it sends plaintext",
        from: "workload \(source.uid): protocol TCP")
      result.check("to bring it into the mesh, label pod or namespace istio.io/dataplane-mode=ambient")
      return false
    }
  }

  // MARK: The target

  /// Nil after having said why there is none.
  private mutating func resolveTarget(for source: Workload) -> [SocketAddress]? {
    switch question.target {
    case .address(let address): return [address]
    case .name(let name, let port):
      if let slash = name.firstIndex(of: "/") {
        return podAddress(namespace: name[..<slash], name: name[name.index(after: slash)...], port)
      }
      guard let service = service(named: name, for: source) else {
        result.add(.destination, .bad, "no service of the mesh is called \(name)")
        result.check("check the name; for a host outside of the mesh, ask about the address it resolves to")
        return nil
      }
      let virtual = service.addresses.filter { $0.network == source.network }.map(\.ip)
      if let ip = virtual.first(where: { $0.family == .v4 }) ?? virtual.first {
        result.add(
          .destination, .neutral, "\(name) is \(ip)", from: "service \(service.key)")
        return [SocketAddress(ip, port)]
      }
      let addresses = snapshot.endpoints(of: service).compactMap(\.workload.addresses.first)
        .map { SocketAddress($0, port) }.sorted { "\($0)" < "\($1)" }
      guard !addresses.isEmpty else {
        result.add(.destination, .bad, "\(name) has no address and no endpoints", from: "service \(service.key)")
        result.check("check that pods of service \(service.key) are ready")
        result.outcome = .denied
        return nil
      }
      result.add(
        .destination, .neutral, "\(name) has no address of its own: its name resolves to \(addresses.count) pods",
        from: "service \(service.key)")
      return Array(addresses.prefix(8))
    }
  }

  private mutating func podAddress(
    namespace: Substring, name: Substring, _ port: UInt16
  ) -> [SocketAddress]? {
    let pod = snapshot.workloads.values
      .filter { $0.namespace == namespace && $0.name == name }.min { $0.uid < $1.uid }
    guard let pod, let ip = pod.addresses.first else {
      result.add(.destination, .bad, "no workload \(namespace)/\(name) with an address is known here")
      return nil
    }
    return [SocketAddress(ip, port)]
  }

  private func service(named name: String, for source: Workload) -> Service? {
    let names = [
      name, "\(name).\(source.namespace).svc.\(clusterDomain)", "\(name).svc.\(clusterDomain)",
      "\(name).\(clusterDomain)",
    ]
    for name in names {
      if let service = snapshot.service(hostname: name.lowercased(), clientNamespace: source.namespace) {
        return service
      }
    }
    return nil
  }
}
