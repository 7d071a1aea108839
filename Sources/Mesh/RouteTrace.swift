import Vocabulary

/// One thing that was found or decided on the way to an ``OutboundDecision``.
public enum RouteStep: Equatable, Sendable, CustomStringConvertible {
  case addressedService(NamespacedHostname, SocketAddress)
  case addressedWorkload(uid: String, SocketAddress)
  case addressedNothingKnown(SocketAddress)
  case waypointSampled(GatewayReference)
  case waypoint(GatewayReference, of: String)
  case callerIsWaypoint(GatewayReference)
  case balanced(NamespacedHostname, mode: LoadBalancing.Mode, candidates: Int, of: Int)
  case picked(uid: String, port: UInt16)
  case nothingToPick(NamespacedHostname, port: UInt16, endpoints: Int)
  case passthroughService(NamespacedHostname)
  case otherNetwork(uid: String, network: String)
  case gateway(GatewayReference)

  public var description: String {
    switch self {
    case .addressedService(let key, let target): "\(target) is an address of service \(key)"
    case .addressedWorkload(let uid, let target): "\(target) is an address of workload \(uid)"
    case .addressedNothingKnown(let target): "\(target) is no address of the mesh"
    case .waypointSampled(let reference): "of the weighted waypoints, \(reference) was drawn"
    case .waypoint(let reference, let owner): "\(owner) is reached through waypoint \(reference)"
    case .callerIsWaypoint(let reference): "the caller is waypoint \(reference) itself, so it goes straight on"
    case .balanced(let key, let mode, let candidates, let total):
      "\(candidates) of \(total) endpoints of \(key) can be chosen (\(mode.rawValue) balancing)"
    case .picked(let uid, let port): "workload \(uid) was chosen, port \(port)"
    case .nothingToPick(let key, let port, let total):
      "none of the \(total) endpoints of \(key) can be chosen for port \(port)"
    case .passthroughService(let key): "service \(key) passes traffic through to the address asked for"
    case .otherNetwork(let uid, let network): "workload \(uid) is on network \"\(network)\""
    case .gateway(let reference): "the network is reached through gateway \(reference)"
    }
  }
}

/// Listens to the steps of a decision. Routing is generic over it, so that nothing is left of the calls when nobody
/// listens.
protocol RouteTrace {
  mutating func note(_ step: @autoclosure () -> RouteStep)
  /// The decision depends on what is under `key` in `snapshot`.
  mutating func lookedUp(_ key: @autoclosure () -> MeshKey, in snapshot: MeshSnapshot)
}

extension RouteTrace {
  @inline(__always)
  mutating func note(_ step: @autoclosure () -> RouteStep) {}
  @inline(__always)
  mutating func lookedUp(_ key: @autoclosure () -> MeshKey, in snapshot: MeshSnapshot) {}
}

struct NoTrace: RouteTrace {}

/// Collects what a decision depends on.
struct KeyTrace: RouteTrace {
  /// What it found or found to be missing.
  var settled: [MeshKey] = []
  /// What nobody has asked for yet.
  var unsettled: [MeshKey] = []

  mutating func lookedUp(_ key: @autoclosure () -> MeshKey, in snapshot: MeshSnapshot) {
    let key = key()
    if snapshot.isSettled(key) { settled.append(key) } else { unsettled.append(key) }
  }
}

struct StepTrace: RouteTrace {
  var steps: [RouteStep] = []
  mutating func note(_ step: @autoclosure () -> RouteStep) { steps.append(step()) }
}
