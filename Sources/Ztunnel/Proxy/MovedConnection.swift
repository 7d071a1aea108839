import JSON
import Linux
import Telemetry
import Vocabulary

/// Why a connection could not be moved between two processes.
enum MovedConnectionError: CodedError, Equatable {
  /// What came is not what this version of ztunnel understands.
  case malformed(String)
  /// A socket belongs to another pod.
  case foreignSocket(NamespaceIdentity)
  case system(SystemError)

  var code: String {
    switch self {
    case .malformed: "MOVED_CONNECTION_MALFORMED"
    case .foreignSocket: "MOVED_CONNECTION_FOREIGN"
    case .system(let error): error.code
    }
  }

  var summary: String {
    switch self {
    case .malformed(let what): "a connection that another ztunnel has left cannot be understood: \(what)"
    case .foreignSocket(let namespace): "a connection that another ztunnel has left belongs to \(namespace)"
    case .system(let error): error.summary
    }
  }
}

/// A plain connection between two processes: one has stopped to move its bytes, the other will go on. Its two sockets stay
/// open meanwhile, and nothing of it is lost: what was read and not yet written goes with it.
struct MovedConnection {
  /// What there is to know of one, beside its sockets and bytes.
  struct Facts: Equatable {
    var direction: AccessLogRecord.Direction
    /// Who opened it.
    var peer: SocketAddress
    /// Where the client wanted to go; nil where that is where it went.
    var original: SocketAddress?
    /// Where it goes.
    var actual: SocketAddress
    /// Milliseconds of ``BootClock``.
    var startedAt: UInt64
    /// Upstreams tried, the one it goes to included.
    var attempts: UInt8
  }

  var facts: Facts
  var left: PumpLeaving

  /// When it began.
  var start: ContinuousClock.Instant {
    let now = BootClock.milliseconds
    return .now - .milliseconds(Int64(clamping: now - min(now, facts.startedAt)))
  }

  /// Has both sides see a reset when the sockets close.
  func reset() {
    TCPSocket.setResetOnClose(left.client.raw)
    TCPSocket.setResetOnClose(left.upstream.raw)
  }
}

// MARK: As a text

/// What is written of a moved connection, beside its sockets and bytes: JSON, so that a later version can add to it. A pure
/// value.
struct MovedConnectionText: Equatable {
  /// Of the meaning of what is written. Another one is not understood, and its connections are reset.
  private static let version = 1
  /// Bytes that wait in one direction, at most: a buffer and a pipe.
  static let mostPending = 1 << 20

  var facts: MovedConnection.Facts
  var up: Way
  var down: Way

  /// A direction without its bytes.
  struct Way: Equatable {
    var moved: UInt64
    var pending: Int
    var hasEnded: Bool
    var isFinished: Bool

    init(_ position: CopyDirection.Position) {
      moved = position.moved
      pending = position.pending.count
      hasEnded = position.hasEnded
      isFinished = position.isFinished
    }
  }

  init(_ moved: MovedConnection) {
    facts = moved.facts
    up = Way(moved.left.position.up)
    down = Way(moved.left.position.down)
  }

  var bytes: [UInt8] {
    let original: JSON.JSONValue = facts.original.map { .string("\($0)") } ?? .null
    let value: JSON.JSONValue = [
      "version": .integer(Self.version), "direction": .string(facts.direction.rawValue),
      "peer": .string("\(facts.peer)"),
      "original": original, "actual": .string("\(facts.actual)"), "startedAt": .integer(Int(clamping: facts.startedAt)),
      "attempts": .integer(Int(facts.attempts)), "up": up.json, "down": down.json,
    ]
    return value.bytes
  }

  /// Throws ``MovedConnectionError/malformed(_:)``. Any bytes are safe to pass.
  init(_ bytes: [UInt8]) throws(MovedConnectionError) {
    let value: JSON.JSONValue
    do { value = try JSON.JSONValue.parse(bytes, limits: .init(bytes: Mailbox.longestMessage, depth: 4)) } catch {
      throw .malformed("\(error)")
    }
    guard value["version"]?.integer == Self.version else { throw .malformed("another version") }
    guard let direction = value["direction"]?.string.flatMap(AccessLogRecord.Direction.init(rawValue:)) else {
      throw .malformed("no direction")
    }
    facts = MovedConnection.Facts(
      direction: direction, peer: try Self.address(value, "peer"),
      original: value["original"]?.isNull ?? true ? nil : try Self.address(value, "original"),
      actual: try Self.address(value, "actual"), startedAt: UInt64(try Self.count(value, "startedAt", atMost: .max)),
      attempts: UInt8(try Self.count(value, "attempts", atMost: Int(UInt8.max))))
    up = try Way(value["up"])
    down = try Way(value["down"])
  }

  private static func address(_ value: JSON.JSONValue, _ name: String) throws(MovedConnectionError) -> SocketAddress {
    guard let address = value[name]?.string.flatMap({ SocketAddress($0) }) else {
      throw .malformed("no address: \(name)")
    }
    return address
  }

  fileprivate static func count(_ value: JSON.JSONValue, _ name: String, atMost most: Int) throws(MovedConnectionError)
    -> Int
  {
    guard let count = value[name]?.integer, count >= 0, count <= most else { throw .malformed("no count: \(name)") }
    return count
  }
}

extension MovedConnectionText.Way {
  fileprivate var json: JSON.JSONValue {
    [
      "moved": .integer(Int(clamping: moved)), "pending": .integer(pending), "hasEnded": .bool(hasEnded),
      "isFinished": .bool(isFinished),
    ]
  }

  fileprivate init(_ value: JSON.JSONValue?) throws(MovedConnectionError) {
    guard let value, let hasEnded = value["hasEnded"]?.bool, let isFinished = value["isFinished"]?.bool else {
      throw .malformed("a direction is missing")
    }
    moved = UInt64(try MovedConnectionText.count(value, "moved", atMost: .max))
    pending = try MovedConnectionText.count(value, "pending", atMost: MovedConnectionText.mostPending)
    self.hasEnded = hasEnded
    self.isFinished = isFinished
    // An end is passed on only after everything before it.
    if isFinished, !hasEnded || pending > 0 { throw .malformed("a direction has ended before its bytes") }
  }

  /// With its bytes.
  func position(_ pending: [UInt8]) -> CopyDirection.Position {
    CopyDirection.Position(moved: moved, pending: pending, hasEnded: hasEnded, isFinished: isFinished)
  }
}
