import JSON

/// One line of a watch.
enum WatchEvent<Object: KubernetesObject>: Equatable {
  case changed(Object)
  /// With the UID of the one that is gone, as far as the server said it: its name may be another one's by now.
  case deleted(ObjectReference, uid: String, resourceVersion: String)
  /// Nothing of the watched kind has changed up to this version.
  case bookmark(String)
  /// A change of an object that is not as it should be.
  case unreadable(KubernetesError, resourceVersion: String)
  /// The server ends the watch with this.
  case failed(KubernetesError)

  /// Throws ``KubernetesError`` where the line is no event at all.
  init(line: [UInt8]) throws(KubernetesError) {
    let subject = "an event of the watch of \(Object.kind)s"
    let event = try APIClient.json(line, of: subject)
    guard let type = event["type"]?.string, let object = event["object"], object.object != nil else {
      throw .malformed(subject: subject, path: "type and object", expected: "a type and its object")
    }
    let version = object["metadata"]?["resourceVersion"]?.string ?? ""
    switch type {
    case "ADDED", "MODIFIED":
      do throws(KubernetesError) {
        self = .changed(try Object(ObjectReader(object, subject: "\(Object.kind) of \(subject)")))
      } catch {
        self = .unreadable(error, resourceVersion: version)
      }
    case "DELETED":
      if let reference = ObjectReference(of: object) {
        self = .deleted(reference, uid: object["metadata"]?["uid"]?.string ?? "", resourceVersion: version)
      } else {
        // Which object is gone will only show in a new list.
        throw .malformed(subject: subject, path: "object.metadata.name", expected: "text that is not empty")
      }
    case "BOOKMARK": self = .bookmark(version)
    case "ERROR":
      self = .failed(
        .refused(
          request: "the watch of \(Object.kind)s", status: object["code"]?.integer ?? 500,
          reason: String((object["reason"]?.string ?? "").prefix(80)),
          message: String((object["message"]?.string ?? "no reason given").prefix(500))))
    default:
      self = .unreadable(
        .malformed(subject: subject, path: "type", expected: "one of the API's, but it is `\(type.prefix(40))`"),
        resourceVersion: "")
    }
  }
}
