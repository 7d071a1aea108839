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
  private static let mostEndpoints = 3

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
    guard let local = try? TCPSocket.localAddress(client.raw) else { return }
    let destination = TCPSocket.originalDestination(client.raw) ?? local
    let connection = TrackedConnection()
    pod.begin(connection)
    do throws(ProxyError) {
      // Not captured but dialled: forwarding it would end up here again.
      guard destination != local else { throw .recursiveCall }
      let source = try await worker.localWorkload(pod.pod.info)
      if try await serve(destination, source, connection, since: start) { return }
    } catch {
      pod.deny(from: peer, to: destination, .outbound, error)
    }
    // Captured connections look established to the application before anything is known; a reset is the closest to a
    // refusal it can still get.
    TCPSocket.setResetOnClose(client.raw)
    pod.end(connection)
  }

  /// True when a pump has the connection; false when it failed, which is then logged. Throws what happens before there
  /// is a record to log with.
  private func serve(
    _ destination: SocketAddress, _ source: Workload, _ connection: TrackedConnection,
    since start: ContinuousClock.Instant
  ) async throws(ProxyError) -> Bool {
    var excluded: Set<String> = []
    var upstream = try upstream(destination, source, excluded)
    while true {
      let record = ConnectionRecord(upstream.record(from: source, peer), worker.context.accessLog, since: start)
      do throws(ProxyError) {
        try connection.check()
        let end = try await open(upstream, source)
        if let aborted = connection.aborted {
          end.abandon()
          throw aborted
        }
        switch end {
        case .socket(let socket):
          let pump = SocketPump(client: client, upstream: socket, loop: worker.loop, scratch: worker.scratch)
          pod.relay(connection, through: pump) { record.complete(outbound: $0) }
        case .stream(let stream):
          let pump = TunnelPump(stream, client, socketIs: .client, loop: worker.loop)
          pod.relay(connection, through: pump) { record.complete(outbound: $0) }
        }
        return true
      } catch {
        if excluded.count + 1 < Self.mostEndpoints, let failed = upstream.endpoint(toBlameFor: error) {
          excluded.insert(failed)
          if let other = try? self.upstream(destination, source, excluded) {
            upstream = other
            continue
          }
        }
        record.complete(sent: 0, received: 0, error)
        return false
      }
    }
  }

  private func upstream(_ destination: SocketAddress, _ source: Workload, _ excluded: Set<String>)
    throws(ProxyError) -> Upstream
  {
    try Upstream(
      pod.mesh.route(
        from: source, sourceIP: peer.ip, to: destination, excluding: excluded, using: &worker.random))
  }

  private enum UpstreamEnd {
    case socket(SharedDescriptor)
    case stream(HTTP2Stream)

    func abandon() {
      if case .stream(let stream) = self { stream.reset(.cancel) }
    }
  }

  private func open(_ upstream: Upstream, _ source: Workload) async throws(ProxyError) -> UpstreamEnd {
    switch upstream {
    case .plain(let address, _, _):
      do throws(DialError) {
        return .socket(try await worker.dialer.connect(to: address, in: pod.pod.namespace))
      } catch { throw .upstreamUnreachable(error) }
    case .tunnel(let route):
      let headers = TunnelHeaders.request(route, from: source, client: peer, using: &worker.random)
      return .stream(try await pod.pool.connect(route, as: source, headers))
    }
  }
}

/// What an outbound decision comes to when it can be carried out.
private enum Upstream {
  case plain(SocketAddress, Workload?, Service?)
  case tunnel(TunnelRoute)

  /// Throws the reason when the decision is a refusal, or asks for what is not built.
  init(_ decision: OutboundDecision) throws(ProxyError) {
    switch decision {
    case .passthrough(let address, let service): self = .plain(address, nil, service)
    case .plain(let route): self = .plain(route.destination, route.workload, route.service)
    case .tunnel(let route): self = .tunnel(route)
    case .doubleTunnel: throw .unsupported(.doubleTunnel)
    case .needsResolution: throw .unsupported(.hostnameWorkload)
    case .refused(let refusal): throw .route(refusal)
    }
  }

  func record(from source: Workload, _ peer: SocketAddress) -> AccessLogRecord {
    switch self {
    case .plain(let address, let workload, let service):
      AccessLogRecord(
        source: .init(peer, source, proven: nil), destination: .init(address, workload, proven: nil),
        service: service?.hostname, direction: .outbound)
    case .tunnel(let route):
      AccessLogRecord(
        source: .init(peer, source, proven: source.identity),
        destination: .init(route.nextHop, route.workload, proven: route.workload.identity),
        tunnelTarget: TunnelAuthority(Array(route.authority.utf8)).map { .init($0) },
        service: route.service?.hostname, direction: .outbound)
    }
  }

  /// The uid to avoid when another endpoint of the same service may do better; nil when the failure is not the
  /// endpoint's, or there is no service to choose from.
  func endpoint(toBlameFor error: ProxyError) -> String? {
    switch error {
    case .upstreamUnreachable, .tunnelUnreachable, .tunnelFailed, .connectTimeout, .streamRefused, .status(503): break
    default: return nil
    }
    switch self {
    case .plain(_, let workload, let service): return service == nil ? nil : workload?.uid
    case .tunnel(let route): return route.service == nil ? nil : route.workload.uid
    }
  }
}
