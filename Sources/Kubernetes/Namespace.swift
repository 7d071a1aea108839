/// A namespace of the cluster.
public struct Namespace: KubernetesObject {
  public static let kind = "namespace"
  public static let collection = "/api/v1/namespaces"

  public var meta: ObjectMeta

  public init(meta: ObjectMeta) { self.meta = meta }

  public init(_ reader: ObjectReader) throws(KubernetesError) {
    meta = try Self.meta(Self.named(reader))
  }

  /// Where one of this name is.
  public static func path(_ name: String) -> String { "\(collection)/\(APIRequest.escaped(name))" }
}
