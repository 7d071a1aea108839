/// The kinds of resources that are subscribed to (xds.md §1).
public enum ResourceType: String, Hashable, Sendable, CaseIterable {
  case address = "type.googleapis.com/istio.workload.Address"
  case authorization = "type.googleapis.com/istio.security.Authorization"

  /// Istio's name for it, for logs.
  public var name: String {
    switch self {
    case .address: "Address"
    case .authorization: "Authorization"
    }
  }
}
