import HTTP2
import Linux
import Mesh
import Telemetry
import Vocabulary

/// One plaintext connection to the pod (datapath.md §10). Its peer has proven nothing, and policy is told so.
struct PassthroughProxy {
  let pod: PodWorker
  let client: SharedDescriptor
  let peer: SocketAddress
  let preservesSource: Bool

  init(_ pod: PodWorker, _ client: SharedDescriptor, _ peer: SocketAddress, preservesSource: Bool) {
    self.pod = pod
    self.client = client
    self.peer = peer
    self.preservesSource = preservesSource
  }

  private var worker: Worker { pod.worker }

  /// Sets the connection up and hands it to a pump, or refuses it.
  func run() async {
    let start = ContinuousClock.now
    guard let destination = TCPSocket.originalDestination(client.raw) ?? (try? TCPSocket.localAddress(client.raw))
    else { return }
    do throws(ProxyError) {
      guard destination.port != ListenerRole.passthrough.rawValue, !pod.mesh.settings.isReserved(port: destination.port)
      else { throw .recursiveCall }
      let workload = try await worker.localWorkload(pod.pod.info)
      await worker.learnPeer(peer.ip, of: pod.pod)
      await serve(destination, workload, since: start)
    } catch {
      TCPSocket.setResetOnClose(client.raw)
      pod.deny(from: peer, to: destination, .inbound, error)
    }
  }

  private func serve(_ destination: SocketAddress, _ workload: Workload, since start: ContinuousClock.Instant) async {
    let record = Self.record(of: pod, peer, destination, workload, since: start)
    let connection = TrackedConnection(
      ConnectionAttributes(sourceIP: peer.ip, destination: destination), holdsSocket: true)
    pod.begin(connection)
    do throws(ProxyError) {
      try connection.check()
      record.allowedBy = try Self.askPolicy(of: pod, peer, destination, workload)
      let upstream: SharedDescriptor
      let dialled = ContinuousClock.now
      do throws(DialError) {
        upstream = try await worker.dialer.connect(
          to: destination, preserving: preservesSource ? peer.ip : nil,
          congestionControl: pod.localCongestionControl, in: pod.pod.namespace)
      } catch { throw .applicationUnreachable(error) }
      worker.metrics.connectsToApplications.observe(.now - dialled)
      try connection.check()
      let pump = SocketPump(client: client, upstream: upstream, loop: worker.loop, scratch: worker.scratch)
      record.relay(connection, through: pump)
    } catch {
      TCPSocket.setResetOnClose(client.raw)
      record.complete(error)
      pod.end(connection)
    }
  }

  /// Goes on with a connection that an earlier process has left. Policy is asked again: it may have changed since.
  static func resume(_ moved: MovedConnection, of pod: PodWorker) async {
    let (worker, peer, destination) = (pod.worker, moved.facts.peer, moved.facts.actual)
    do throws(ProxyError) {
      let workload = try await worker.localWorkload(pod.pod.info)
      await worker.learnPeer(peer.ip, of: pod.pod)
      let record = record(
        of: pod, peer, destination, workload, since: moved.start, after: moved.left.position.outcome)
      let connection = TrackedConnection(
        ConnectionAttributes(sourceIP: peer.ip, destination: destination), holdsSocket: true)
      pod.begin(connection)
      do throws(ProxyError) {
        try connection.check()
        record.allowedBy = try askPolicy(of: pod, peer, destination, workload)
        record.relay(connection, through: SocketPump(resuming: moved.left, worker))
      } catch {
        if error == .drained, pod.leave(moved) { record.forget() } else { record.complete(error) }
        pod.end(connection)
      }
    } catch {
      pod.deny(from: peer, to: destination, .inbound, error)
    }
  }

  private static func record(
    of pod: PodWorker, _ peer: SocketAddress, _ destination: SocketAddress, _ workload: Workload,
    since start: ContinuousClock.Instant, after moved: PumpOutcome? = nil
  ) -> ConnectionRecord {
    let source = pod.mesh.workload(at: NetworkAddress(network: pod.mesh.settings.network, ip: peer.ip))
    let service = pod.mesh.attributedService(of: workload, forwardedHost: nil, port: destination.port)
    return ConnectionRecord(
      AccessLogRecord(
        source: .init(peer, source, proven: nil), destination: .init(destination, workload, proven: nil),
        service: service?.hostname, direction: .inbound),
      ConnectionFacts(
        labels: TrafficLabels(
          reporter: .destination, source: WorkloadLabels(source, principal: nil),
          destination: WorkloadLabels(workload, principal: workload.identity), service: .init(service),
          isMutualTLS: false),
        carriage: .tcp, plaintext: .plaintextPeer, actual: destination),
      of: pod, since: start, after: moved)
  }

  /// The policy that allows it; nil where none has to. Throws ``ProxyError/policyRejected(_:)``.
  private static func askPolicy(
    of pod: PodWorker, _ peer: SocketAddress, _ destination: SocketAddress, _ workload: Workload
  ) throws(ProxyError) -> String? {
    let decision = pod.decide(ConnectionAttributes(sourceIP: peer.ip, destination: destination), for: workload)
    pod.log.inbound(HTTP2Headers())?.debug(
      "policy asked of a plaintext connection",
      metadata: [
        "src.addr": "\(peer)", "dst.addr": "\(destination)", "allowed_by": "\(decision.allowedBy ?? "")",
        "rejection": "\(decision.rejection?.summary ?? "")",
      ])
    if let rejection = decision.rejection { throw .policyRejected(rejection) }
    return decision.allowedBy
  }
}
