public import Vocabulary

/// What the connection log knows of one connection before it moves bytes (observability.md §2.1). Absent values are
/// left out of the line.
public struct AccessLogRecord: Hashable, Sendable {
  /// One end of the connection.
  public struct Peer: Hashable, Sendable {
    public var address: SocketAddress
    /// The pod's name, else its canonical service.
    public var workload: String?
    public var namespace: String?
    /// Only when mutual TLS proved it.
    public var identity: SPIFFEIdentity?
    public var cluster: String?

    public init(
      address: SocketAddress, workload: String? = nil, namespace: String? = nil, identity: SPIFFEIdentity? = nil,
      cluster: String? = nil
    ) {
      self.address = address
      self.workload = workload
      self.namespace = namespace
      self.identity = identity
      self.cluster = cluster
    }
  }

  /// The authority of the CONNECT request.
  public enum TunnelTarget: Hashable, Sendable {
    case address(SocketAddress)
    case host(String, port: UInt16)
  }

  /// Seen from the local application.
  public enum Direction: String, Hashable, Sendable {
    case inbound, outbound
  }

  public var source: Peer
  public var destination: Peer
  /// HBONE connections only.
  public var tunnelTarget: TunnelTarget?
  /// Host name of the service the connection was meant for.
  public var service: String?
  public var direction: Direction
  /// Endpoints chosen for the connection, one after the other: the one it is about and those that had failed before.
  public var endpointsTried: UInt8 = 1

  public init(
    source: Peer, destination: Peer, tunnelTarget: TunnelTarget? = nil, service: String? = nil, direction: Direction
  ) {
    self.source = source
    self.destination = destination
    self.tunnelTarget = tunnelTarget
    self.service = service
    self.direction = direction
  }
}

/// What a connection had done when it ended, from the local application's viewpoint in both directions.
public struct ConnectionTraffic: Hashable, Sendable {
  /// Bytes the application sent.
  public var bytesSent: UInt64
  /// Bytes the application received.
  public var bytesReceived: UInt64
  public var duration: Duration

  public init(bytesSent: UInt64, bytesReceived: UInt64, duration: Duration) {
    self.bytesSent = bytesSent
    self.bytesReceived = bytesReceived
    self.duration = duration
  }

  /// Whole milliseconds, rounded down, as `12ms`.
  var durationText: String {
    let (seconds, attoseconds) = duration.components
    return "\(seconds * 1000 + attoseconds / 1_000_000_000_000_000)ms"
  }
}

/// Why a connection failed: Istio's text (observability.md §2.2), and a stable code to search and count by.
public struct ConnectionFailure: Hashable, Sendable {
  public var text: String
  public var code: String

  public init(text: String, code: String) {
    self.text = text
    self.code = code
  }

  /// The error's own code and summary.
  public init(_ error: some CodedError) {
    self.init(text: error.summary, code: error.code)
  }
}

/// One line of the connection log.
public enum AccessLogEvent: Hashable, Sendable {
  /// The record exists; nothing has been dialled.
  case opened(AccessLogRecord)
  /// This endpoint failed before the first byte, and another one is tried.
  case givenUp(AccessLogRecord, ConnectionFailure)
  /// The connection ended.
  case complete(AccessLogRecord, ConnectionTraffic, ConnectionFailure? = nil)
  /// It failed before enough was known to make a record.
  case denied(
    source: SocketAddress, destination: SocketAddress, direction: AccessLogRecord.Direction, ConnectionFailure)

  /// The level of the event (observability.md §2).
  public var level: LogThreshold {
    switch self {
    case .opened: .debug
    case .givenUp, .complete(_, _, nil): .info
    case .complete: .error
    case .denied: .warn
    }
  }

  /// The whole line with its newline.
  public func line(_ format: LogFormat, at time: LogTimestamp) -> [UInt8] {
    var line = LogLine(format, time: time, level: level, scope: AccessLog.target, message: message)
    switch self {
    case .opened(let record):
      record.append(to: &line)
    case .givenUp(let record, let failure):
      record.append(to: &line)
      failure.append(to: &line)
    case .complete(let record, let traffic, let failure):
      record.append(to: &line)
      line.field("bytes_sent", integer: traffic.bytesSent)
      line.field("bytes_recv", integer: traffic.bytesReceived)
      line.field("duration", traffic.durationText)
      failure?.append(to: &line)
    case .denied(let source, let destination, let direction, let failure):
      line.field("src.addr", address: source)
      line.field("dst.addr", address: destination)
      line.field("direction", direction.rawValue)
      failure.append(to: &line)
    }
    return line.finish()
  }

  private var message: String {
    switch self {
    case .opened: "connection opened"
    case .givenUp: "endpoint given up for another"
    case .complete: "connection complete"
    case .denied: "connection failed"
    }
  }
}

extension AccessLogRecord {
  fileprivate func append(to line: inout LogLine) {
    line.field("src.addr", address: source.address)
    line.field("src.workload", source.workload)
    line.field("src.namespace", source.namespace)
    line.field("src.identity", source.identity?.description)
    line.field("src.cluster", source.cluster)
    line.field("dst.addr", address: destination.address)
    switch tunnelTarget {
    case .address(let address): line.field("dst.hbone_addr", address: address)
    case .host(let host, let port): line.field("dst.hbone_addr", bare: "\(host):\(port)")
    case nil: break
    }
    line.field("dst.service", service)
    line.field("dst.workload", destination.workload)
    line.field("dst.namespace", destination.namespace)
    line.field("dst.identity", destination.identity?.description)
    line.field("dst.cluster", destination.cluster)
    line.field("direction", direction.rawValue)
    if endpointsTried > 1 { line.field("endpoints_tried", integer: UInt64(endpointsTried)) }
  }
}

extension ConnectionFailure {
  fileprivate func append(to line: inout LogLine) {
    line.field("error", text)
    line.field("error_code", code)
  }
}
