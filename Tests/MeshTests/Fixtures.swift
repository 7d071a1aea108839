import Vocabulary

@testable import Mesh

/// A generator whose numbers are the same in every run (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}

/// Values that tests write down; a mistake in one is a mistake in the test and stops it.
func ip(_ text: String) -> IPAddress {
  guard let ip = IPAddress(text) else { fatalError("\(text) is no address") }
  return ip
}

func socket(_ text: String) -> SocketAddress {
  guard let address = SocketAddress(text) else { fatalError("\(text) is no address with a port") }
  return address
}

func prefix(_ text: String) -> IPPrefix {
  guard let prefix = IPPrefix(text) else { fatalError("\(text) is no range") }
  return prefix
}

func virtual(_ text: String) -> NetworkAddress {
  guard let address = NetworkAddress(text) else { fatalError("\(text) is no network address") }
  return address
}

func serviceKey(_ text: String) -> NamespacedHostname {
  guard let key = NamespacedHostname(text) else { fatalError("\(text) is no service") }
  return key
}

func identity(_ text: String) -> SPIFFEIdentity {
  guard let identity = SPIFFEIdentity(uri: "spiffe://\(text)") else { fatalError("\(text) is no identity") }
  return identity
}

extension GatewayReference {
  static func host(_ text: String, _ port: UInt16 = 15008) -> Self { .init(.hostname(serviceKey(text)), port: port) }
  static func address(_ text: String, _ port: UInt16 = 15008) -> Self { .init(.address(virtual(text)), port: port) }
}

extension Workload.Record {
  /// A pod of namespace `shop` in cluster `c`, speaking HBONE.
  static func pod(_ name: String, _ addresses: String..., change: (inout Self) -> Void = { _ in }) -> Self {
    var record = Self(uid: "c//Pod/shop/\(name)")
    record.name = name
    record.namespace = "shop"
    record.serviceAccount = name
    record.addresses = addresses.map(ip)
    record.tunnelProtocol = .hbone
    change(&record)
    return record
  }

  func serving(_ service: String, _ ports: [UInt16: UInt16] = [:]) -> Self {
    var copy = self
    copy.services[serviceKey(service)] = ports
    return copy
  }
}

extension Service.Record {
  static func named(
    _ text: String, _ addresses: String..., ports: [UInt16: UInt16] = [80: 8080],
    change: (inout Self) -> Void = { _ in }
  ) -> Self {
    var record = Self(key: serviceKey(text))
    record.name = record.hostname.split(separator: ".").first.map(String.init) ?? ""
    record.addresses = addresses.map(virtual)
    record.ports = ports
    change(&record)
    return record
  }
}

extension MeshSnapshot {
  init(_ settings: MeshSettings = MeshSettings(), _ changes: MeshChange...) {
    self = MeshSnapshot(settings: settings).applying(changes).snapshot
  }

  init(
    _ settings: MeshSettings = MeshSettings(), workloads: [Workload.Record] = [], services: [Service.Record] = [],
    policies: [AuthorizationPolicy] = []
  ) {
    self.init(
      document: MeshDocument(workloads: workloads, services: services, policies: policies), settings: settings)
  }

  func pod(_ name: String) -> Workload {
    guard let workload = workload(uid: "c//Pod/shop/\(name)") else { fatalError("there is no pod \(name)") }
    return workload
  }

  /// Where pod `source` gets to from its first address.
  func route(
    from source: String, to destination: String, excluding: Set<String> = [], seed: UInt64 = 1
  ) -> OutboundDecision {
    var random = SeededGenerator(seed: seed)
    let source = pod(source)
    return route(
      from: source, sourceIP: source.addresses.first ?? .any(.v4), to: socket(destination), excluding: excluding,
      using: &random)
  }
}
