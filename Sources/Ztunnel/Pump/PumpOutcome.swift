import Linux

/// What a pump had moved when it ended, and why it ended if not by both sides' ends.
struct PumpOutcome: Equatable {
  /// Bytes read from the side that opened the connection.
  var fromClient: UInt64 = 0
  /// Bytes written to the side that opened the connection.
  var toClient: UInt64 = 0
  /// Nil after an orderly end; a reset by either application is one (datapath.md §14).
  var failure: ProxyError?
}

/// Where a pump between two sockets was left.
struct PumpPosition: Equatable, Sendable {
  /// From the side that opened the connection.
  var up = CopyDirection.Position()
  /// To it.
  var down = CopyDirection.Position()

  /// What has been moved up to here.
  var outcome: PumpOutcome { PumpOutcome(fromClient: up.moved, toClient: down.moved) }
}

/// What a pump leaves to another one.
struct PumpLeaving {
  let client: SharedDescriptor
  let upstream: SharedDescriptor
  let position: PumpPosition
}

/// Which side of a connection a pump's socket is.
enum PumpSide {
  /// The one that opened it.
  case client
  /// The one it was opened to.
  case upstream
}

/// Moves the bytes of one connection until it ends. Belongs to one loop.
///
/// Callbacks instead of a task: a connection that is idle for hours must not hold the memory of a suspended one.
protocol Pump: AnyObject {
  /// Starts to move bytes. `completion` is called once, when it is over.
  func start(_ completion: @escaping (PumpOutcome) -> Void)
  /// What has been moved so far.
  var progress: PumpOutcome { get }
  /// Ends both sides at once with a reset.
  func abort(_ reason: ProxyError)
  /// Whether another pump could go on where this one leaves.
  var canLeave: Bool { get }
  /// Stops for good and touches neither side; `completion` is not called. Nil where it is over already, and where it cannot
  /// be gone on with: then both sides will see a reset.
  func leave() -> PumpLeaving?
}

extension Pump {
  var canLeave: Bool { false }
  func leave() -> PumpLeaving? { nil }
}
