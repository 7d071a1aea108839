/// What every object of the API says about itself.
public struct ObjectMeta: Equatable, Sendable {
  public var name: String
  /// Empty where the kind has no namespaces.
  public var namespace: String
  public var uid: String
  public var resourceVersion: String
  public var labels: [String: String]
  public var annotations: [String: String]
  /// It has been told to go, and goes when its containers have ended and its finalizers are done.
  public var isBeingDeleted: Bool

  public init(
    name: String, namespace: String = "", uid: String = "", resourceVersion: String = "",
    labels: [String: String] = [:], annotations: [String: String] = [:], isBeingDeleted: Bool = false
  ) {
    self.name = name
    self.namespace = namespace
    self.uid = uid
    self.resourceVersion = resourceVersion
    self.labels = labels
    self.annotations = annotations
    self.isBeingDeleted = isBeingDeleted
  }

  init(_ reader: ObjectReader) throws(KubernetesError) {
    name = try reader.requiredText("name")
    namespace = try reader.text("namespace") ?? ""
    uid = try reader.text("uid") ?? ""
    resourceVersion = try reader.text("resourceVersion") ?? ""
    labels = try reader.texts("labels")
    annotations = try reader.texts("annotations")
    isBeingDeleted = try reader.text("deletionTimestamp") != nil
  }

  public var reference: ObjectReference { ObjectReference(namespace: namespace, name: name) }

  /// Whether this is what the object was before `other`. Versions are numbers that grow, on every server there is; where
  /// one is not, nothing is said.
  public func precedes(_ other: ObjectMeta) -> Bool {
    guard let own = UInt64(resourceVersion), let others = UInt64(other.resourceVersion) else { return false }
    return own < others
  }
}

/// An object's place among those of its kind.
public struct ObjectReference: Hashable, Sendable, CustomStringConvertible {
  public let namespace: String
  public let name: String

  public init(namespace: String, name: String) {
    self.namespace = namespace
    self.name = name
  }

  public var description: String { namespace.isEmpty ? name : "\(namespace)/\(name)" }
}

/// A kind of object, with what this project reads of it.
public protocol KubernetesObject: Equatable, Sendable {
  /// The kind in words for people, such as `pod`.
  static var kind: String { get }
  /// Where all of them are listed.
  static var collection: String { get }

  var meta: ObjectMeta { get }

  /// Throws ``KubernetesError/malformed(subject:path:expected:)``.
  init(_ reader: ObjectReader) throws(KubernetesError)
}

extension KubernetesObject {
  /// The reader of an object whose own name stands in errors, as far as it has one.
  static func named(_ reader: ObjectReader) -> ObjectReader {
    guard let meta = try? reader.child("metadata"), let name = try? meta.text("name") else { return reader }
    let namespace = (try? meta.text("namespace")) ?? ""
    return reader.named("\(kind) \(ObjectReference(namespace: namespace, name: name))")
  }

  static func meta(_ reader: ObjectReader) throws(KubernetesError) -> ObjectMeta {
    guard let meta = try reader.child("metadata") else { throw reader.malformed("metadata", "an object") }
    return try ObjectMeta(meta)
  }
}
