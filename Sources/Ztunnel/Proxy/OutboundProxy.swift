import HTTP2
import Linux
import Mesh
import Telemetry
import Vocabulary

/// One connection that an application of the pod opened, from capture until bytes move (datapath.md §4).
struct OutboundProxy {
  let pod: PodWorker
  let client: SharedDescriptor
  let peer: SocketAddress

  /// Endpoints of a service tried, one after the other, before the first byte.
  private static let mostEndpoints: UInt8 = 3

  init(_ pod: PodWorker, _ client: SharedDescriptor, _ peer: SocketAddress) {
    self.pod = pod
    self.client = client
    self.peer = peer
  }

  private var worker: Worker { pod.worker }

  /// Sets the connection up and hands it to a pump, or refuses it.
  func run() async {
    let start = ContinuousClock.now
    // Nobody to answer: the client has gone.
    guard let destination = TCPSocket.originalDestination(client.raw) ?? (try? TCPSocket.localAddress(client.raw))
    else { return }
    let connection = TrackedConnection(holdsSocket: true)
    pod.begin(connection)
    let failure: ProxyError?
    // Not captured but dialled: forwarding it would end up here again.
    if destination.port == ListenerRole.outbound.rawValue, destination == (try? TCPSocket.localAddress(client.raw)) {
      failure = .recursiveCall
      pod.deny(from: peer, to: destination, .outbound, .recursiveCall)
    } else {
      failure = await carry(to: destination, connection, since: start)
    }
    guard failure != nil else { return }
    // Captured connections look established to the application before anything is known; a reset is the closest to a
    // refusal it can still get.
    TCPSocket.setResetOnClose(client.raw)
    pod.end(connection)
  }

  /// Connects a registered connection to `destination` and hands it to a pump: nil; or logs and returns why it failed.
  /// `announce` tells the client that it is connected, before any byte from upstream.
  func carry(
    to destination: SocketAddress, _ connection: TrackedConnection, since start: ContinuousClock.Instant,
    announce: (() async throws(ProxyError) -> Void)? = nil
  ) async -> ProxyError? {
    let source: Workload
    var attempt = UpstreamChoice(destination: destination, sourceIP: peer.ip)
    var upstream: Upstream
    do throws(ProxyError) {
      source = try await worker.localWorkload(pod.pod.info)
      upstream = try await attempt.next(pod, source)
    } catch {
      pod.deny(from: peer, to: destination, .outbound, error)
      return error
    }
    while true {
      let record = ConnectionRecord(
        upstream.record(from: source, peer), upstream.facts(from: source, to: destination), of: pod, since: start,
        attempt: attempt.count)
      var opened: UpstreamEnd?
      do throws(ProxyError) {
        try connection.check()
        let end = try await open(upstream, source, record, destination)
        opened = end
        try connection.check()
        try await announce?()
        try connection.check()
        relay(end, connection, record)
        return nil
      } catch {
        opened?.abandon()
        if opened == nil, attempt.count < Self.mostEndpoints,
          let other = await attempt.another(than: upstream, after: error, pod, source)
        {
          record.giveUp(error)
          upstream = other
          continue
        }
        record.complete(error)
        return error
      }
    }
  }

  /// Goes on with a connection that an earlier process has left, to where it led then.
  static func resume(_ moved: MovedConnection, of pod: PodWorker) async {
    let connection = TrackedConnection(holdsSocket: true)
    pod.begin(connection)
    let original = moved.facts.original ?? moved.facts.actual
    do throws(ProxyError) {
      let source = try await pod.worker.localWorkload(pod.pod.info)
      try connection.check()
      let mesh = pod.mesh
      func address(_ ip: IPAddress) -> NetworkAddress { NetworkAddress(network: mesh.settings.network, ip: ip) }
      let upstream = Upstream.plain(
        moved.facts.actual, mesh.workload(at: address(moved.facts.actual.ip)),
        mesh.service(at: address(original.ip), clientNamespace: source.namespace))
      let record = ConnectionRecord(
        upstream.record(from: source, moved.facts.peer), upstream.facts(from: source, to: original), of: pod,
        since: moved.start, attempt: moved.facts.attempts, after: moved.left.position.outcome)
      record.relay(connection, through: SocketPump(resuming: moved.left, pod.worker))
    } catch {
      if error != .drained || !pod.leave(moved) { pod.deny(from: moved.facts.peer, to: original, .outbound, error) }
      pod.end(connection)
    }
  }

  private enum UpstreamEnd {
    case socket(SharedDescriptor)
    case stream(HTTP2Stream)

    func abandon() {
      if case .stream(let stream) = self { stream.reset(.cancel) }
    }
  }

  private func open(
    _ upstream: Upstream, _ source: Workload, _ record: ConnectionRecord, _ destination: SocketAddress
  ) async throws(ProxyError) -> UpstreamEnd {
    func tell(_ headers: HTTP2Headers?, _ way: String, _ nextHop: SocketAddress) {
      pod.log.outbound(headers.flatMap(PodLog.traceID) ?? "none")?.debug(
        "route chosen",
        metadata: [
          "src.addr": "\(peer)", "original_dst": "\(destination)", "way": "\(way)", "dst.addr": "\(nextHop)",
          "authority": "\(headers?[":authority"] ?? "")", "attempt": "\(record.record.endpointsTried)",
        ])
    }
    switch upstream {
    case .plain(let address, _, _):
      tell(nil, "plaintext", address)
      do throws(DialError) {
        let start = ContinuousClock.now
        let socket = try await worker.dialer.connect(to: address, in: pod.pod.namespace)
        worker.metrics.connectsToNextHops.observe(.now - start)
        return .socket(socket)
      } catch { throw .upstreamUnreachable(error) }
    case .tunnel(let route):
      let headers = TunnelHeaders.request(route, from: source, client: peer, using: &worker.random)
      tell(headers, "tunnel", route.nextHop)
      return .stream(try await pod.pool.connect(route, as: source, headers))
    case .doubleTunnel(let route):
      let outer = TunnelHeaders.request(route.outer, from: source, client: peer, using: &worker.random)
      var inner = outer
      inner.append("x-forwarded-network", route.forwardedNetwork)
      tell(inner, "tunnel in a tunnel", route.outer.nextHop)
      let (stream, identity) = try await pod.pool.connect(route, as: source, outer: outer, inner: inner)
      record.relabelDestination(Baggage(headers: stream.headers.all("baggage")), identity)
      return .stream(stream)
    }
  }

  private func relay(_ end: UpstreamEnd, _ connection: TrackedConnection, _ record: ConnectionRecord) {
    switch end {
    case .socket(let socket):
      let pump = SocketPump(client: client, upstream: socket, loop: worker.loop, scratch: worker.scratch)
      record.relay(connection, through: pump)
    case .stream(let stream):
      let pump = TunnelPump(stream, client, socketIs: .client, loop: worker.loop)
      record.relay(connection, through: pump)
    }
  }
}
