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
    let source = pod.mesh.workload(at: NetworkAddress(network: pod.mesh.settings.network, ip: peer.ip))
    let service = pod.mesh.attributedService(of: workload, forwardedHost: nil, port: destination.port)
    let record = ConnectionRecord(
      AccessLogRecord(
        source: .init(peer, source, proven: nil), destination: .init(destination, workload, proven: nil),
        service: service?.hostname, direction: .inbound),
      ConnectionFacts(
        labels: TrafficLabels(
          reporter: .destination, source: WorkloadLabels(source, principal: nil),
          destination: WorkloadLabels(workload, principal: workload.identity), service: .init(service),
          isMutualTLS: false),
        carriage: .tcp, plaintext: .plaintextPeer, actual: destination),
      of: pod, since: start)
    let attributes = ConnectionAttributes(sourceIP: peer.ip, destination: destination)
    let connection = TrackedConnection(attributes, holdsSocket: true)
    pod.begin(connection)
    do throws(ProxyError) {
      try connection.check()
      let decision = pod.decide(attributes, for: workload)
      pod.log.inbound(HTTP2Headers())?.debug(
        "policy asked of a plaintext connection",
        metadata: [
          "src.addr": "\(peer)", "dst.addr": "\(destination)", "allowed_by": "\(decision.allowedBy ?? "")",
          "rejection": "\(decision.rejection?.summary ?? "")",
        ])
      if let rejection = decision.rejection { throw .policyRejected(rejection) }
      record.allowedBy = decision.allowedBy
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
}
