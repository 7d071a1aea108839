public import Mesh

/// Records that the data path uses, and for whom.
public struct Demand: Equatable, Sendable {
  public var keys: [MeshKey]
  /// The uid of the pod whose connections need them; nil where it is this proxy itself.
  public var pod: String?

  public init(_ keys: [MeshKey], for pod: String?) {
    self.keys = keys
    self.pod = pod
  }
}
