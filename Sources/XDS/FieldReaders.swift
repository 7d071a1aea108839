import IstioAPI
import Mesh
import SwiftProtobuf
import Vocabulary

/// Parts that several kinds of resources have in common.
enum FieldReaders {
  /// 4 or 16 bytes.
  static func address(_ bytes: [UInt8], _ field: String) throws(ResourceRejection) -> IPAddress {
    guard let address = IPAddress(bytes: bytes) else {
      throw .field(field, "an address has 4 or 16 bytes, not \(bytes.count)")
    }
    return address
  }

  /// 0...65535: a number that does not fit is somebody else's port when it is cut (xds.md limit 7).
  static func port(_ number: UInt32, _ field: String) throws(ResourceRejection) -> UInt16 {
    guard let port = UInt16(exactly: number) else { throw .field(field, "\(number) is no port") }
    return port
  }

  static func ports(_ ports: [Istio_Workload_Port], _ field: String) throws(ResourceRejection) -> [UInt16: UInt16] {
    var mapped: [UInt16: UInt16] = [:]
    for entry in ports { mapped[try port(entry.servicePort, field)] = try port(entry.targetPort, field) }
    return mapped
  }

  static func gateway(_ gateway: Istio_Workload_GatewayAddress, _ field: String) throws(ResourceRejection)
    -> GatewayReference
  {
    let port = try port(gateway.hboneMtlsPort, field)
    switch gateway.destination {
    case .hostname(let name):
      return GatewayReference(
        .hostname(NamespacedHostname(namespace: name.namespace, hostname: name.hostname)), port: port)
    case .address(let place):
      let ip = try address(Array(place.address), field)
      return GatewayReference(.address(NetworkAddress(network: place.network, ip: ip)), port: port)
    case nil: throw .field(field, "it has no destination")
    }
  }

  /// The value of an enum that must be known: what a new value means cannot be guessed.
  static func known<Value: SwiftProtobuf.Enum, Meaning>(
    _ value: Value, _ field: String, _ meaning: (Value) -> Meaning?
  ) throws(ResourceRejection) -> Meaning {
    guard let meaning = meaning(value) else { throw .field(field, "unknown value \(value.rawValue)") }
    return meaning
  }
}
