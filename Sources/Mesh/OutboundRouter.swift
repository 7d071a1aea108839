import Vocabulary

/// Decides one outbound connection (services.md §6, datapath.md §4.1).
struct OutboundRouter<Trace: RouteTrace, Random: RandomNumberGenerator> {
  let snapshot: MeshSnapshot
  let source: Workload
  let sourceIP: IPAddress
  /// What the client asked for.
  let destination: SocketAddress
  let excluded: Set<String>
  var random: Random
  var trace: Trace

  /// A workload to send to, and how it was come by.
  private struct Upstream {
    var workload: Workload
    var port: UInt16
    var service: Service?
  }

  private enum UpstreamLookup {
    case upstream(Upstream)
    /// The service takes no part in where the traffic goes.
    case original
    /// There is a service or workload, and nothing in it can be used.
    case unavailable
    case unknown
  }

  mutating func decide() -> OutboundDecision {
    if destination.ip.isLoopback, snapshot.settings.isReserved(port: destination.port) {
      return .refused(.selfCall(destination))
    }
    let service = addressedService()
    if let service, let waypoint = waypoint(of: service) {
      trace.note(.waypoint(waypoint, of: service.key.description))
      return throughWaypoint(waypoint, service: service)
    }
    switch upstream(source.network, destination, purpose: .destination) {
    case .upstream(let upstream): return deliver(to: upstream, addressed: service)
    case .unavailable: return .refused(.noHealthyUpstream(destination))
    case .original: return .passthrough(destination, service: service)
    case .unknown:
      if let service, !service.isPassthrough { return .refused(.noHealthyUpstream(destination)) }
      return .passthrough(destination, service: service)
    }
  }

  // MARK: What the client addressed

  /// The service the client addressed. A workload at that address comes first, and then the traffic counts as
  /// addressed to the workload.
  private mutating func addressedService() -> Service? {
    let address = NetworkAddress(network: snapshot.settings.network, ip: destination.ip)
    let destination = destination
    trace.lookedUp(.address(address), in: snapshot)
    if let workload = snapshot.workload(at: address) {
      trace.note(.addressedWorkload(uid: workload.uid, destination))
      return nil
    }
    guard let service = snapshot.service(at: address, clientNamespace: source.namespace) else {
      trace.note(.addressedNothingKnown(destination))
      return nil
    }
    trace.note(.addressedService(service.key, destination))
    return service
  }

  /// One of the weighted waypoints, else the single one.
  private mutating func waypoint(of service: Service) -> GatewayReference? {
    // 32-bit weights in a 64-bit sum cannot overflow, so no weight is ever ignored.
    let total = service.weightedWaypoints.reduce(UInt64(0)) { $0 &+ UInt64($1.weight) }
    guard total > 0 else { return service.waypoint }
    var ticket = UInt64.random(in: 0..<total, using: &random)
    for entry in service.weightedWaypoints {
      if ticket < entry.weight {
        trace.note(.waypointSampled(entry.waypoint))
        return entry.waypoint
      }
      ticket -= UInt64(entry.weight)
    }
    return service.waypoint
  }

  // MARK: Upstream

  /// A service at the address first, then a workload: the opposite order of ``addressedService()`` (datapath.md §5.1).
  private mutating func upstream(
    _ network: String, _ target: SocketAddress, purpose: EndpointSelection.Purpose
  ) -> UpstreamLookup {
    let address = NetworkAddress(network: network, ip: target.ip)
    trace.lookedUp(.address(address), in: snapshot)
    if let service = snapshot.service(at: address, clientNamespace: source.namespace) {
      guard !service.isPassthrough else {
        trace.note(.passthroughService(service.key))
        return .original
      }
      return pick(from: service, port: target.port, purpose: purpose).map(UpstreamLookup.upstream) ?? .unavailable
    }
    guard let workload = snapshot.workload(at: address) else { return .unknown }
    guard !excluded.contains(workload.uid) else { return .unavailable }
    return .upstream(Upstream(workload: workload, port: target.port))
  }

  private mutating func pick(
    from service: Service, port: UInt16, purpose: EndpointSelection.Purpose
  ) -> Upstream? {
    let selection = EndpointSelection(
      service: service, port: port, purpose: purpose, source: source, excluded: excluded)
    let endpoints = snapshot.endpoints[service.key] ?? ServiceEndpoints(balancing: nil)
    guard let winner = selection.pick(from: endpoints, using: &random) else {
      trace.note(.nothingToPick(service.key, port: port, endpoints: endpoints.count))
      return nil
    }
    trace.note(
      .balanced(
        service.key, mode: service.loadBalancing?.mode ?? .standard, candidates: winner.candidates,
        of: endpoints.count))
    trace.note(.picked(uid: winner.workload.uid, port: winner.port))
    return Upstream(workload: winner.workload, port: winner.port, service: service)
  }

  private mutating func deliver(to upstream: Upstream, addressed service: Service?) -> OutboundDecision {
    let workload = upstream.workload
    if workload.network != source.network {
      trace.note(.otherNetwork(uid: workload.uid, network: workload.network))
      return throughNetworkGateway(to: upstream, service: service, isViaWaypoint: false)
    }
    if service == nil, let waypoint = workload.waypoint {
      if isCaller(waypoint) {
        trace.note(.callerIsWaypoint(waypoint))
      } else {
        trace.note(.waypoint(waypoint, of: workload.uid))
        return throughWaypoint(waypoint, service: nil)
      }
    }
    let isTunnel = workload.tunnelProtocol == .hbone
    let hop = Hop(
      carriage: isTunnel ? .direct : .plain, port: upstream.port,
      expectedIdentities: isTunnel ? expectedIdentities(of: upstream) : [], workload: workload,
      service: upstream.service)
    return finish(hop, families: upstream.service?.ipFamilies, original: destination.ip)
  }

  private func expectedIdentities(of upstream: Upstream) -> [SPIFFEIdentity] {
    [upstream.workload.identity] + (upstream.service?.subjectIdentities ?? [])
  }

  private func isCaller(_ waypoint: GatewayReference) -> Bool {
    let callers = snapshot.workloads(at: NetworkAddress(network: source.network, ip: sourceIP)) + [source]
    return callers.contains {
      $0.identity == source.identity && $0.addresses.contains(sourceIP)
        && snapshot.gateway(waypoint, clientNamespace: source.namespace, is: $0)
    }
  }

  // MARK: Waypoints and gateways

  private mutating func throughWaypoint(_ reference: GatewayReference, service: Service?) -> OutboundDecision {
    guard let waypoint = resolve(reference, purpose: .waypoint) else {
      return .refused(.unknownWaypoint(reference))
    }
    guard waypoint.workload.network == source.network else {
      trace.note(.otherNetwork(uid: waypoint.workload.uid, network: waypoint.workload.network))
      return throughNetworkGateway(to: waypoint, service: service, isViaWaypoint: true)
    }
    let hop = Hop(
      carriage: .waypoint(authority: .address(destination)), port: waypoint.port,
      expectedIdentities: expectedIdentities(of: waypoint), workload: waypoint.workload, service: service)
    return finish(hop, families: waypoint.service?.ipFamilies, original: preferredAddress(for: reference))
  }

  private mutating func throughNetworkGateway(
    to upstream: Upstream, service: Service?, isViaWaypoint: Bool
  ) -> OutboundDecision {
    guard let service else { return .refused(.noServiceForTarget(destination)) }
    guard let reference = upstream.workload.networkGateway else {
      return .refused(.noValidDestination(workload: upstream.workload.uid))
    }
    trace.note(.gateway(reference))
    let innerIdentities = upstream.service?.subjectIdentities ?? []
    guard !innerIdentities.isEmpty else { return .refused(.noExpectedIdentities(service: upstream.service?.key)) }
    guard let gateway = resolve(reference, purpose: .destination) else {
      return .refused(.unknownNetworkGateway(reference))
    }
    let inner = Hop.Inner(
      expectedIdentities: innerIdentities, forwardedNetwork: snapshot.settings.network, workload: upstream.workload,
      service: service, isViaWaypoint: isViaWaypoint)
    let hop = Hop(
      carriage: .gateway(authority: .hostname(service.hostname, port: destination.port), inner: inner),
      port: gateway.port,
      expectedIdentities: expectedIdentities(of: gateway), workload: gateway.workload, service: service)
    return finish(hop, families: gateway.service?.ipFamilies, original: preferredAddress(for: reference))
  }

  private mutating func resolve(
    _ reference: GatewayReference, purpose: EndpointSelection.Purpose
  ) -> Upstream? {
    trace.lookedUp(reference.key, in: snapshot)
    switch snapshot.target(of: reference, clientNamespace: source.namespace) {
    case .service(let service):
      // A passthrough service found by its address says to leave the traffic alone, which is no gateway.
      if case .address = reference.destination, service.isPassthrough { return nil }
      return pick(from: service, port: reference.port, purpose: purpose)
    case .workload(let workload):
      guard !excluded.contains(workload.uid) else { return nil }
      trace.note(.picked(uid: workload.uid, port: reference.port))
      return Upstream(workload: workload, port: reference.port)
    case nil:
      return nil
    }
  }

  /// The address whose family the gateway's should have: its own when it is named by one, else the client's.
  private func preferredAddress(for reference: GatewayReference) -> IPAddress {
    if case .address(let address) = reference.destination { address.ip } else { destination.ip }
  }

  private func finish(_ hop: Hop, families: Service.IPFamilies?, original: IPAddress) -> OutboundDecision {
    switch NextHopAddress(of: hop.workload, families: families ?? .automatic, original: original) {
    case .ip(let ip): hop.decision(at: ip)
    case .hostname(let hostname):
      .needsResolution(
        NameResolution(
          hostname: hostname, preferredFamily: original.family, workload: hop.workload, service: hop.service,
          hop: hop))
    case .none: .refused(.noValidDestination(workload: hop.workload.uid))
    }
  }
}
