import Vocabulary

/// Why a resource is not taken (xds.md §3.4). The texts go to the control plane.
public enum ResourceRejection: CodedError, Equatable {
  /// The bytes are no message of this type, or there are none.
  case undecodable
  /// Neither a workload nor a service.
  case unknownAddressType
  /// The resource is called otherwise than what it holds.
  case misnamed(holds: String)
  /// A field holds what it cannot.
  case field(String, String)

  public var code: String {
    switch self {
    case .undecodable: "XDS_UNDECODABLE"
    case .unknownAddressType: "XDS_UNKNOWN_ADDRESS_TYPE"
    case .misnamed: "XDS_MISNAMED"
    case .field: "XDS_FIELD_INVALID"
    }
  }

  public var summary: String {
    switch self {
    case .undecodable: "the resource cannot be decoded"
    case .unknownAddressType: "unknown address type"
    case .misnamed(let name): "the resource holds \(name.prefix(256)), which is another name"
    case .field(let field, let reason): "\(field): \(reason)"
    }
  }
}
