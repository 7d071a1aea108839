import Mesh
import Vocabulary

/// The choice of where one connection goes, and of where else when that fails.
struct UpstreamChoice {
  let destination: SocketAddress
  let sourceIP: IPAddress
  /// Upstreams chosen so far.
  private(set) var count: UInt8 = 0
  private var excluded: Set<String> = []
  private var addresses = AddressChoice()

  /// Names without address that one choice passes over; each may take its time.
  private static let mostNames = 3

  init(destination: SocketAddress, sourceIP: IPAddress) {
    self.destination = destination
    self.sourceIP = sourceIP
  }

  /// Asks the mesh, and the name servers where the mesh has only a host name; an endpoint whose name has no address is
  /// passed over when there are others. Throws ``ProxyError``.
  mutating func next(_ pod: PodWorker, _ source: Workload) async throws(ProxyError) -> Upstream {
    addresses.leaveName()
    var failure: ProxyError?
    for _ in 0..<Self.mostNames {
      let decision = try await decide(pod, source)
      guard case .needsResolution(let resolution) = decision else {
        if let failure, case .refused = decision { throw failure }
        let upstream = try Self.upstream(decision)
        count += 1
        return upstream
      }
      do throws(ProxyError) {
        let ip = try await resolve(resolution, pod, source)
        let upstream = try Self.upstream(resolution.completed(with: ip))
        count += 1
        return upstream
      } catch {
        excluded.insert(resolution.workload.uid)
        failure = failure ?? error
      }
    }
    throw failure ?? .route(.noHealthyUpstream(destination))
  }

  /// Another upstream when `failed` is to blame for `error` and there is one, else nil.
  mutating func another(than failed: Upstream, after error: ProxyError, _ pod: PodWorker, _ source: Workload)
    async -> Upstream?
  {
    let blamed = failed.endpoints(toBlameFor: error)
    if addresses.hasOther, !blamed.isEmpty { return try? await next(pod, source) }
    for uid in blamed {
      excluded.insert(uid)
      if let other = try? await next(pod, source) { return other }
    }
    return nil
  }

  /// What the mesh says. Where it is learnt on demand, what the decision depends on is waited for: as long as it is not
  /// known what is at an address, nothing may go there.
  private func decide(_ pod: PodWorker, _ source: Workload) async throws(ProxyError) -> OutboundDecision {
    let sourceIP = sourceIP(for: source)
    guard pod.mesh.settings.isOnDemand else {
      return pod.mesh.route(
        from: source, sourceIP: sourceIP, to: destination, excluding: excluded, using: &pod.worker.random)
    }
    var choice = pod.mesh.routeOnDemand(
      from: source, sourceIP: sourceIP, to: destination, excluding: excluded, using: &pod.worker.random)
    if !choice.unsettled.isEmpty {
      let missing = await pod.worker.learn(for: pod.pod, within: Worker.demandLimit) { mesh in
        choice = mesh.routeOnDemand(
          from: source, sourceIP: sourceIP, to: destination, excluding: excluded, using: &pod.worker.random)
        return choice.unsettled
      }
      guard missing.isEmpty else { throw .notLearnt(missing) }
    }
    pod.worker.note(inUse: choice.settled, by: pod.pod)
    return choice.decision
  }

  /// A client of the pod's own SOCKS port comes from loopback, and is the pod all the same.
  private func sourceIP(for source: Workload) -> IPAddress {
    guard sourceIP.isLoopback else { return sourceIP }
    return source.addresses.first { $0.family == destination.ip.family } ?? source.addresses.first ?? sourceIP
  }

  private mutating func resolve(_ resolution: NameResolution, _ pod: PodWorker, _ source: Workload)
    async throws(ProxyError) -> IPAddress
  {
    let labels = WorkloadLabels(source, principal: source.identity)
    pod.worker.metrics.onDemandDNS(
      labels.workload, labels.canonicalName, labels.revision, labels.namespace, "\(source.identity)", labels.app,
      labels.revision, labels.cluster, resolution.hostname
    ).add()
    let found: [IPAddress]
    do throws(ResolutionError) {
      found = try await pod.worker.context.names.addresses(of: resolution.hostname, on: pod.loop)
    } catch { throw .unresolved(resolution.refusal, error) }
    guard let ip = addresses.pick(from: found, resolution.preferredFamily, using: &pod.worker.random) else {
      throw .unresolved(resolution.refusal, .notFound)
    }
    return ip
  }

  private static func upstream(_ decision: OutboundDecision) throws(ProxyError) -> Upstream {
    switch decision {
    case .passthrough(let address, let service): return .plain(address, nil, service)
    case .plain(let route): return .plain(route.destination, route.workload, route.service)
    case .tunnel(let route): return .tunnel(route)
    case .doubleTunnel(let route): return .doubleTunnel(route)
    // A route is completed with an address, so that nothing is left to resolve.
    case .needsResolution(let resolution): throw .unresolved(resolution.refusal, .notFound)
    case .refused(let refusal): throw .route(refusal)
    }
  }
}
