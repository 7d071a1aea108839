import Vocabulary

extension MeshSnapshot {
  /// Decides where a connection from `source` to `destination` goes (services.md §6, datapath.md §4.1).
  ///
  /// - Parameters:
  ///   - source: the local workload that opened the connection.
  ///   - sourceIP: the address it opened it from.
  ///   - destination: the original destination, IPv4-mapped IPv6 unwrapped or not.
  ///   - excluding: uids not to be chosen, because they were tried and failed.
  ///   - random: draws endpoints and weighted waypoints.
  public func route(
    from source: Workload, sourceIP: IPAddress, to destination: SocketAddress, excluding: Set<String> = [],
    using random: inout some RandomNumberGenerator
  ) -> OutboundDecision {
    var router = OutboundRouter(
      snapshot: self, source: source, sourceIP: sourceIP.canonical, destination: destination.canonical,
      excluded: excluding, random: random, trace: NoTrace())
    defer { random = router.random }
    return router.decide()
  }

  /// The same decision where the mesh is learnt on demand: it stands if `unsettled` is empty, else these have to be asked
  /// for first. `settled` is what it rests on.
  public func routeOnDemand(
    from source: Workload, sourceIP: IPAddress, to destination: SocketAddress, excluding: Set<String> = [],
    using random: inout some RandomNumberGenerator
  ) -> (decision: OutboundDecision, settled: [MeshKey], unsettled: [MeshKey]) {
    var router = OutboundRouter(
      snapshot: self, source: source, sourceIP: sourceIP.canonical, destination: destination.canonical,
      excluded: excluding, random: random, trace: KeyTrace())
    let decision = router.decide()
    random = router.random
    return (decision, router.trace.settled, router.trace.unsettled)
  }

  /// The same decision with every step that led to it, for `ztunnel explain`.
  public func explainRoute(
    from source: Workload, sourceIP: IPAddress, to destination: SocketAddress, excluding: Set<String> = [],
    using random: inout some RandomNumberGenerator
  ) -> (decision: OutboundDecision, steps: [RouteStep]) {
    var router = OutboundRouter(
      snapshot: self, source: source, sourceIP: sourceIP.canonical, destination: destination.canonical,
      excluded: excluding, random: random, trace: StepTrace())
    let decision = router.decide()
    random = router.random
    return (decision, router.trace.steps)
  }
}
