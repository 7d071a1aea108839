import HTTP2
import Linux
import Mesh
import Telemetry
import Vocabulary

/// One CONNECT stream of an inbound tunnel, from request to end (hbone.md §7).
struct InboundProxy {
  let pod: PodWorker
  let stream: HTTP2Stream
  /// The peer's TCP address.
  let peer: SocketAddress
  /// Where the tunnel arrived: the pod's address, port 15008.
  let local: SocketAddress
  /// Who the peer has proven to be.
  let identity: SPIFFEIdentity
  let preservesSource: Bool

  /// Time the application may take to accept the PROXY header.
  private static let headerLimit = Duration.seconds(10)

  private var worker: Worker { pod.worker }

  /// Sets the connection up and hands it to a pump, or refuses it.
  func run() async {
    let start = ContinuousClock.now
    let workload: Workload
    let route: InboundRoute
    do throws(ProxyError) {
      let method = stream.headers[":method"] ?? ""
      guard method == "CONNECT" else { throw .inbound(.methodNotConnect(String(method.prefix(32)))) }
      do throws(ProxyError) { workload = try await worker.localWorkload(pod.pod.info) } catch {
        let info = pod.pod.info
        throw .inbound(
          .unknownLocalWorkload(name: info.name, namespace: info.namespace, serviceAccount: info.serviceAccount))
      }
      let authority = Array((stream.headers[":authority"] ?? "").utf8)
      let missing = await worker.learn(for: pod.pod, within: Worker.demandLimit) {
        $0.unsettledKeys(inboundTo: workload, connectionIP: local.ip, authority: authority)
      }
      guard missing.isEmpty else { throw .notLearnt(missing) }
      switch pod.mesh.inbound(to: workload, connectionIP: local.ip, authority: authority) {
      case .refused(let refusal): throw .inbound(refusal)
      case .accepted(let accepted): route = accepted
      }
    } catch {
      refuse(error)
      pod.deny(from: peer, to: local, .inbound, error)
      return
    }
    await worker.learnPeer(peer.ip, of: pod.pod)
    await serve(workload, route, since: start)
  }

  private func serve(_ workload: Workload, _ route: InboundRoute, since start: ContinuousClock.Instant) async {
    let service = service(workload, route)
    let source = source()
    let record = ConnectionRecord(
      AccessLogRecord(
        source: source.peer, destination: .init(local, workload, proven: workload.identity),
        tunnelTarget: .init(route.authority), service: service?.hostname, direction: .inbound),
      ConnectionFacts(
        labels: TrafficLabels(
          reporter: .destination, source: source.labels,
          destination: WorkloadLabels(workload, principal: workload.identity), service: .init(service),
          isMutualTLS: true),
        carriage: .hbone,
        original: TunnelHeaders.forwardedHost(stream.headers).map { .hostname(String($0.prefix(253))) },
        actual: route.policyDestination), of: pod, since: start)
    let attributes = ConnectionAttributes(
      sourceIP: peer.ip, destination: route.policyDestination, identity: identity)
    let connection = TrackedConnection(attributes)
    connection.abortAction = { [stream] _ in stream.reset(.cancel) }
    pod.begin(connection)
    var isAccepted = false
    do throws(ProxyError) {
      try connection.check()
      let decision = pod.decide(attributes, for: workload)
      pod.log.inbound(stream.headers)?.debug(
        "policy asked",
        metadata: [
          "src.addr": "\(peer)", "src.identity": "\(identity)", "dst.addr": "\(route.policyDestination)",
          "target": "\(route.target)", "allowed_by": "\(decision.allowedBy ?? "")",
          "rejection": "\(decision.rejection?.summary ?? "")",
        ])
      if let rejection = decision.rejection { throw .policyRejected(rejection) }
      record.allowedBy = decision.allowedBy
      let application: SharedDescriptor
      let dialled = ContinuousClock.now
      do throws(DialError) {
        application = try await worker.dialer.connect(
          to: route.target, preserving: preservesSource && !route.isFromLoopback ? peer.ip : nil,
          congestionControl: pod.localCongestionControl, in: pod.pod.namespace)
      } catch { throw .applicationUnreachable(error) }
      worker.metrics.connectsToApplications.observe(.now - dialled)
      try connection.check()
      accept(workload)
      isAccepted = true
      if let destination = route.proxyHeaderDestination {
        try await announce(to: application, destination)
        try connection.check()
      }
      let pump = TunnelPump(stream, application, socketIs: .upstream, loop: worker.loop)
      record.relay(connection, through: pump)
    } catch {
      if isAccepted { stream.reset(.connectError) } else { refuse(error) }
      record.complete(error)
      pod.end(connection)
    }
  }

  /// Tells the application tunnel about the original connection, before any byte of it.
  private func announce(to application: SharedDescriptor, _ destination: SocketAddress) async throws(ProxyError) {
    let header = ProxyProtocolHeader(source: peer, destination: destination, identity: identity)
    do throws(WaitError) {
      try await pod.loop.write(header.bytes, to: application, until: .now + Self.headerLimit)
    } catch { throw .receive("PROXY header: \(error.summary)") }
  }

  // MARK: Answers

  private func accept(_ workload: Workload) {
    var headers = HTTP2Headers([(":status", "200")])
    if worker.context.configuration.respondsWithBaggage { headers.append("baggage", workload.baggage) }
    stream.respond(headers, endStream: false)
  }

  private func refuse(_ error: ProxyError) {
    let status =
      switch error {
      case .inbound(let refusal): refusal.status
      case .policyRejected, .policyChanged: 401
      default: 503
      }
    stream.respond(HTTP2Headers([(":status", "\(status)")]), endStream: true)
  }

  // MARK: Record

  private func service(_ workload: Workload, _ route: InboundRoute) -> Service? {
    route.service
      ?? pod.mesh.attributedService(
        of: workload, forwardedHost: TunnelHeaders.forwardedHost(stream.headers), port: route.policyDestination.port)
  }

  /// Who the peer is, for the log and the metrics: its record by address; else, or when a gateway lies between, what it
  /// says of itself and what its certificate proves (hbone.md §4.4).
  private func source() -> (peer: AccessLogRecord.Peer, labels: WorkloadLabels) {
    let network = pod.mesh.settings.network
    let crossed = stream.headers["x-forwarded-network"].map { $0.lowercased() != network.lowercased() } ?? false
    if !crossed, let workload = pod.mesh.workload(at: NetworkAddress(network: network, ip: peer.ip)) {
      return (.init(peer, workload, proven: identity), WorkloadLabels(workload, principal: identity))
    }
    let baggage =
      worker.context.configuration.respondsWithBaggage ? Baggage(headers: stream.headers.all("baggage")) : nil
    let end = AccessLogRecord.Peer(
      address: peer, workload: baggage?.workloadName, namespace: identity.namespace, identity: identity,
      cluster: baggage?.clusterID)
    return (end, WorkloadLabels(baggage, principal: identity))
  }
}
