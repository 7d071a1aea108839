import IstioAPI
import Mesh
import Vocabulary

/// Makes changes of the mesh from resources. Pure: bytes in, a value or a reason out.
public struct ResourceDecoder: Sendable {
  private var sharing = RecordSharing()

  public init() {}

  /// What the resource called `name` changes. Throws ``ResourceRejection``.
  public mutating func change(_ type: ResourceType, name: String, bytes: [UInt8]) throws(ResourceRejection)
    -> MeshChange
  {
    switch type {
    case .address:
      let address: Istio_Workload_Address
      do { address = try Istio_Workload_Address(serializedBytes: bytes) } catch { throw .undecodable }
      switch address.type {
      case .workload(let message):
        try Self.require(name, is: message.uid)
        let record = try Workload.Record(message, uid: name, &sharing)
        return .upsertWorkload(record)
      case .service(let message):
        let record = try Service.Record(message)
        try Self.require(name, is: record.key.description)
        return .upsertService(record)
      case nil: throw .unknownAddressType
      }
    case .authorization:
      let message: Istio_Security_Authorization
      do { message = try Istio_Security_Authorization(serializedBytes: bytes) } catch { throw .undecodable }
      let policy = try AuthorizationPolicy(message)
      try Self.require(name, is: policy.key)
      return .upsertPolicy(policy)
    }
  }

  /// What is known under another name than the control plane's could never be removed.
  private static func require(_ name: String, is key: String) throws(ResourceRejection) {
    guard name == key else { throw .misnamed(holds: key) }
  }
}
