import JSON

/// One page of a list.
struct ObjectPage<Object: KubernetesObject> {
  var objects: [Object] = []
  /// Objects that are there and could not be read.
  var unreadable: Set<ObjectReference> = []
  var problems: [KubernetesError] = []
  var resourceVersion = ""
  /// Nil on the last page.
  var continueToken: String?

  init(objects: [Object] = [], resourceVersion: String = "", continueToken: String? = nil) {
    self.objects = objects
    self.resourceVersion = resourceVersion
    self.continueToken = continueToken
  }

  /// One object that is not as it should be is a problem of its own and spoils nothing else. Throws
  /// ``KubernetesError/malformed(subject:path:expected:)`` where the list itself cannot be read.
  init(_ answer: JSONValue) throws(KubernetesError) {
    let list = try ObjectReader(answer, subject: "the list of \(Object.kind)s")
    guard let meta = try list.child("metadata") else { throw list.malformed("metadata", "an object") }
    resourceVersion = try meta.requiredText("resourceVersion")
    continueToken = try meta.text("continue").flatMap { $0.isEmpty ? nil : $0 }
    for (index, item) in try list.list("items").enumerated() {
      let subject = "\(Object.kind) \(index) of its list"
      do throws(KubernetesError) { objects.append(try Object(ObjectReader(item, subject: subject))) } catch {
        problems.append(error)
        if let reference = ObjectReference(of: item) { unreadable.insert(reference) }
      }
    }
  }
}

extension ObjectReference {
  /// The place of an object that may be unreadable otherwise.
  init?(of value: JSONValue) {
    guard let meta = value["metadata"], let name = meta["name"]?.string, !name.isEmpty else { return nil }
    self.init(namespace: meta["namespace"]?.string ?? "", name: name)
  }
}
