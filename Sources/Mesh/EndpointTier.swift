import HashTreeCollections
import Vocabulary

/// All that selection looks at in an endpoint besides where it is and how much it takes: endpoints with the same traits
/// can be chosen by the same sources for the same ports.
struct EndpointTraits: Hashable, Sendable {
  enum Reach: Hashable, Sendable {
    /// It has an address or a host name.
    case everywhere
    /// It has a gateway only, which serves the other networks than its own.
    case fromOutside(network: String)
    case nowhere
  }

  enum Tunnel: Hashable, Sendable {
    case none, withoutPort, withPort
  }

  var isHealthy: Bool
  /// Capacity 0 is never chosen.
  var hasCapacity: Bool
  var reach: Reach
  var tunnel: Tunnel
  /// The endpoint's own target ports by service port.
  var ports: [UInt16: UInt16]

  init(_ endpoint: Endpoint) {
    let record = endpoint.workload.record
    isHealthy = record.health == .healthy
    hasCapacity = record.capacity > 0
    reach =
      if !record.addresses.isEmpty || !record.hostname.isEmpty {
        .everywhere
      } else if record.networkGateway != nil {
        .fromOutside(network: record.network)
      } else {
        .nowhere
      }
    tunnel = record.applicationTunnel.map { $0.port == nil ? .withoutPort : .withPort } ?? .none
    ports = endpoint.ports
  }
}

/// Endpoints by their traits, of which a service has one or two kinds as a rule.
struct EndpointTier: Sendable {
  private var pools: TreeDictionary<EndpointTraits, EndpointPool> = [:]

  var isEmpty: Bool { pools.isEmpty }

  mutating func insert(_ endpoint: Endpoint, _ traits: EndpointTraits) {
    pools[traits, default: EndpointPool()].insert(endpoint)
  }

  /// False when it is not here.
  mutating func remove(uid: String, _ traits: EndpointTraits) -> Bool {
    guard pools[traits]?.remove(uid: uid) == true else { return false }
    if pools[traits]?.isEmpty == true { pools[traits] = nil }
    return true
  }

  /// Calls `body` with each kind and the endpoints of it.
  func forEachPool(_ body: (EndpointTraits, EndpointPool) -> Void) {
    for (traits, pool) in pools { body(traits, pool) }
  }

  /// The endpoint at a position, when all stand in a row.
  func endpoint(at position: Int) -> Endpoint? {
    var position = position
    for pool in pools.values {
      if position < pool.count { return pool.endpoint(atPosition: position) }
      position -= pool.count
    }
    return nil
  }

  func forEach(_ body: (Endpoint) -> Void) {
    for pool in pools.values { pool.forEach(body) }
  }
}
