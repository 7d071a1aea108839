import Linux
import Mesh
import Telemetry
import Vocabulary

extension AccessLogRecord.Peer {
  /// An end whose workload is known; `identity` only where mutual TLS proved it.
  init(_ address: SocketAddress, _ workload: Workload?, proven identity: SPIFFEIdentity?) {
    self.init(
      address: address, workload: workload.map { $0.name.isEmpty ? $0.canonicalName : $0.name },
      namespace: workload?.namespace, identity: identity, cluster: workload?.clusterID)
  }
}

extension AccessLogRecord.TunnelTarget {
  init(_ authority: TunnelAuthority) {
    switch authority {
    case .address(let address): self = .address(address)
    case .hostname(let host, let port): self = .host(host, port: port)
    }
  }
}

/// The life of one connection in the log, in the metrics and in the list of live ones: opened with what is known,
/// completed with what it did, or given up where another upstream is tried. Belongs to its worker.
final class ConnectionRecord {
  private(set) var record: AccessLogRecord
  private let carriage: ConnectionFacts.Carriage
  private let plaintext: ConnectionFacts.PlaintextReason?
  private let original: ConnectionFacts.OriginalDestination?
  private let actual: SocketAddress
  private let start: ContinuousClock.Instant
  /// The policy that allowed it; nil where none had to.
  var allowedBy: String? {
    didSet {
      if let allowedBy { pod.worker.metrics.policyAllowances[allowedBy].add() }
    }
  }
  /// Moves the bytes, once it does.
  private var pump: (any Pump)?
  private unowned let pod: PodWorker
  private var series: TrafficSeries?
  /// Until it is known who answers from beyond a gateway.
  private var pending: PendingLabels?
  private var counted = PumpOutcome()
  private var isComplete = false

  /// `attempt` is how many upstreams were chosen for the connection, this one included. `moved` is what an earlier process
  /// has moved of it, and has counted.
  init(
    _ record: AccessLogRecord, _ facts: ConnectionFacts, of pod: PodWorker, since start: ContinuousClock.Instant,
    attempt: UInt8 = 1, after moved: PumpOutcome? = nil
  ) {
    var record = record
    record.endpointsTried = attempt
    self.record = record
    carriage = facts.carriage
    plaintext = facts.plaintext
    original = facts.original
    actual = facts.actual
    self.pod = pod
    self.start = start
    if let moved { counted = moved } else { pod.worker.context.accessLog.write(.opened(record)) }
    if facts.isDestinationPending { pending = PendingLabels(facts.labels) } else { countOpening(facts.labels) }
    pod.live[ObjectIdentifier(self)] = self
    if record.direction == .outbound { pod.openedOutbound &+= 1 } else { pod.openedInbound &+= 1 }
  }

  /// Names who answered from beyond a network gateway: what it says of itself, and who it has proven to be
  /// (hbone.md §11).
  func relabelDestination(_ baggage: Baggage?, _ identity: SPIFFEIdentity?) {
    record.destination.workload = baggage?.workloadName ?? baggage?.canonicalName
    record.destination.namespace = identity?.namespace ?? baggage?.namespace
    record.destination.cluster = baggage?.clusterID
    record.destination.identity = identity
    guard let pending else { return }
    pending.labels.destination = WorkloadLabels(baggage, principal: identity)
    countOpening(pending.labels)
  }

  /// Has `pump` move the bytes, and completes the connection when it ends.
  func relay(_ connection: TrackedConnection, through pump: some Pump) {
    self.pump = pump
    pod.relay(connection, through: pump) { [self] outcome in
      self.pump = nil
      complete(outcome)
    }
    guard pump.canLeave else { return }
    pod.canMove(connection) { [unowned self] put in move(put) }
  }

  /// Leaves the connection to somebody else, through `put`. It goes on there, log line and all; here it is over. Where that
  /// fails it is cut.
  private func move(_ put: (MovedConnection) -> Bool) {
    guard !isComplete, let pump else { return }
    let left = pump.leave()
    self.pump = nil
    var outcome = left?.position.outcome ?? counted
    guard let left,
      put(
        MovedConnection(
          facts: MovedConnection.Facts(
            direction: record.direction, peer: record.source.address, original: original?.address, actual: actual,
            startedAt: BootClock.milliseconds(ago: .now - start), attempts: record.endpointsTried),
          left: left))
    else {
      outcome.failure = .drained
      return complete(outcome)
    }
    count(outcome)
    forget()
  }

  /// The connection is somebody else's: it is over here, and has no line.
  func forget() {
    guard !isComplete else { return }
    isComplete = true
    series?.closed(ResponseFlag(nil))
    pod.live[ObjectIdentifier(self)] = nil
  }

  /// Ends a connection that moved no bytes here.
  func complete(_ failure: ProxyError) {
    var outcome = counted
    outcome.failure = failure
    complete(outcome)
  }

  /// Gives this attempt up because of `failure`: another upstream is tried, under a record of its own. The connection has
  /// not failed, so it is not counted among those that have.
  func giveUp(_ failure: ProxyError) {
    guard !isComplete else { return }
    isComplete = true
    if let pending { countOpening(pending.labels) }
    series?.closed(ResponseFlag(failure))
    pod.worker.context.accessLog.write(.givenUp(record, failure.failure))
    pod.live[ObjectIdentifier(self)] = nil
  }

  private func complete(_ outcome: PumpOutcome) {
    guard !isComplete else { return }
    isComplete = true
    if let pending { countOpening(pending.labels) }
    count(outcome)
    series?.closed(ResponseFlag(outcome.failure))
    if let failure = outcome.failure {
      pod.worker.metrics.failed(failure, record.direction == .outbound ? .source : .destination)
    }
    let (sent, received) = local(outcome)
    let traffic = ConnectionTraffic(bytesSent: sent, bytesReceived: received, duration: .now - start)
    pod.worker.context.accessLog.write(.complete(record, traffic, outcome.failure?.failure))
    pod.live[ObjectIdentifier(self)] = nil
  }

  // MARK: Counting

  private final class PendingLabels {
    var labels: TrafficLabels
    init(_ labels: TrafficLabels) { self.labels = labels }
  }

  private func countOpening(_ labels: TrafficLabels) {
    pending = nil
    let series = pod.traffic.series(labels)
    series.opened.addAlone()
    self.series = series
  }

  /// Counts what has been moved since the last time.
  func countProgress() {
    if let pump { count(pump.progress) }
  }

  private func count(_ outcome: PumpOutcome) {
    // Pumps count upwards only; if one did not, nothing would be counted rather than the connection's worker be lost.
    let up = outcome.fromClient - min(counted.fromClient, outcome.fromClient)
    let down = outcome.toClient - min(counted.toClient, outcome.toClient)
    series?.received.addAlone(up)
    series?.sent.addAlone(down)
    let (sent, received) = record.direction == .outbound ? (up, down) : (down, up)
    pod.bytesSent &+= sent
    pod.bytesReceived &+= received
    counted = outcome
  }

  /// What the local application has sent and received: outbound it is the client, and inbound its client's server.
  private func local(_ outcome: PumpOutcome) -> (sent: UInt64, received: UInt64) {
    record.direction == .outbound
      ? (outcome.fromClient, outcome.toClient) : (outcome.toClient, outcome.fromClient)
  }

  /// What there is to tell of it now.
  var snapshot: ConnectionSnapshot {
    let (sent, received) = local(pump?.progress ?? counted)
    return ConnectionSnapshot(
      // Hashed with a secret of this process: addresses of memory are nobody's business.
      id: ObjectIdentifier(self).hashValue, record: record, carriage: carriage, plaintext: plaintext,
      original: original, actual: actual,
      isEstablished: pump != nil, allowedBy: allowedBy, bytesSent: sent, bytesReceived: received, age: .now - start)
  }
}

/// One live connection at one moment.
struct ConnectionSnapshot: Sendable {
  /// The same as long as the connection lives.
  let id: Int
  let record: AccessLogRecord
  let carriage: ConnectionFacts.Carriage
  let plaintext: ConnectionFacts.PlaintextReason?
  let original: ConnectionFacts.OriginalDestination?
  let actual: SocketAddress
  /// Bytes can move; otherwise it is being set up.
  let isEstablished: Bool
  let allowedBy: String?
  /// By the application.
  let bytesSent: UInt64
  let bytesReceived: UInt64
  let age: Duration
}
