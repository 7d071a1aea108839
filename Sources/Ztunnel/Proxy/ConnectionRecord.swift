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

/// The life of one connection in the log: opened with what is known, completed with what it did.
struct ConnectionRecord {
  private var record: AccessLogRecord
  private let log: AccessLog
  private let start: ContinuousClock.Instant

  /// `attempt` is how many upstreams were chosen for the connection, this one included.
  init(
    _ record: AccessLogRecord, _ log: AccessLog, since start: ContinuousClock.Instant, attempt: UInt8 = 1
  ) {
    var record = record
    record.endpointsTried = attempt
    self.record = record
    self.log = log
    self.start = start
    log.write(.opened(record))
  }

  /// Names who answered from beyond a network gateway: what it says of itself, and who it has proven to be
  /// (hbone.md §11).
  mutating func relabelDestination(_ baggage: Baggage?, _ identity: SPIFFEIdentity?) {
    record.destination.workload = baggage?.workloadName ?? baggage?.canonicalName
    record.destination.namespace = identity?.namespace ?? baggage?.namespace
    record.destination.cluster = baggage?.clusterID
    record.destination.identity = identity
  }

  /// Writes the line of an outbound connection that moved bytes: the application is the client.
  func complete(outbound outcome: PumpOutcome) {
    complete(sent: outcome.fromClient, received: outcome.toClient, outcome.failure)
  }

  /// Writes the line of an inbound connection that moved bytes: what the application sent is what its client got.
  func complete(inbound outcome: PumpOutcome) {
    complete(sent: outcome.toClient, received: outcome.fromClient, outcome.failure)
  }

  /// Writes the line of a connection that ended. `sent` and `received` are the local application's.
  func complete(sent: UInt64, received: UInt64, _ failure: ProxyError?) {
    let traffic = ConnectionTraffic(bytesSent: sent, bytesReceived: received, duration: .now - start)
    log.write(.complete(record, traffic, failure?.failure))
  }
}
