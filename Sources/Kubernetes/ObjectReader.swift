import JSON

/// Reads members of an API object, with errors that name the object and the place.
///
/// A member that is absent or null is nil; one of another kind than asked for is an error.
public struct ObjectReader {
  /// Names the object: its kind with namespace and name, or where it came from.
  let subject: String
  /// Where in the object this is; empty at its root.
  let path: String
  private let object: JSONObject

  /// Throws ``KubernetesError/malformed(subject:path:expected:)`` where `value` is no object.
  public init(_ value: JSONValue, subject: String) throws(KubernetesError) {
    guard let object = value.object else {
      throw .malformed(subject: subject, path: "object", expected: "an object")
    }
    self.init(object, subject: subject, path: "")
  }

  private init(_ object: JSONObject, subject: String, path: String) {
    self.object = object
    self.subject = subject
    self.path = path
  }

  /// The same place, with the object called `subject`.
  func named(_ subject: String) -> ObjectReader { ObjectReader(object, subject: subject, path: path) }

  func text(_ key: String) throws(KubernetesError) -> String? {
    guard let value = member(key) else { return nil }
    guard let text = value.string else { throw malformed(key, "text") }
    return text
  }

  /// As ``text(_:)``, but neither absent nor empty.
  func requiredText(_ key: String) throws(KubernetesError) -> String {
    guard let text = try text(key), !text.isEmpty else { throw malformed(key, "text that is not empty") }
    return text
  }

  func boolean(_ key: String) throws(KubernetesError) -> Bool? {
    guard let value = member(key) else { return nil }
    guard let flag = value.bool else { throw malformed(key, "true or false") }
    return flag
  }

  func integer(_ key: String) throws(KubernetesError) -> Int? {
    guard let value = member(key) else { return nil }
    guard let number = value.integer else { throw malformed(key, "a whole number") }
    return number
  }

  /// A map of texts; empty where there is none.
  func texts(_ key: String) throws(KubernetesError) -> [String: String] {
    guard let value = member(key) else { return [:] }
    guard let map = value.object else { throw malformed(key, "a map of texts") }
    var texts: [String: String] = [:]
    for member in map.members {
      guard let text = member.value.string else { throw malformed("\(key).\(member.key)", "text") }
      texts[member.key] = text
    }
    return texts
  }

  func child(_ key: String) throws(KubernetesError) -> ObjectReader? {
    guard let value = member(key) else { return nil }
    guard let object = value.object else { throw malformed(key, "an object") }
    return ObjectReader(object, subject: subject, path: place(key))
  }

  /// The objects of a list; none where there is no list.
  func children(_ key: String) throws(KubernetesError) -> [ObjectReader] {
    var children: [ObjectReader] = []
    for (index, value) in try list(key).enumerated() {
      guard let object = value.object else { throw malformed("\(key)[\(index)]", "an object") }
      children.append(ObjectReader(object, subject: subject, path: place("\(key)[\(index)]")))
    }
    return children
  }

  /// A list's values as they are; none where there is no list.
  func list(_ key: String) throws(KubernetesError) -> [JSONValue] {
    guard let value = member(key) else { return [] }
    guard let list = value.array else { throw malformed(key, "a list") }
    return list
  }

  func malformed(_ key: String, _ expected: String) -> KubernetesError {
    .malformed(subject: subject, path: place(key), expected: expected)
  }

  private func place(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  private func member(_ key: String) -> JSONValue? {
    guard let value = object[key], value != .null else { return .none }
    return value
  }
}
