import Vocabulary
import YAML

/// The mesh as written in a local file (xds.md §7): all of it, checked, or an error.
public struct MeshDocument: Hashable, Sendable {
  /// Largest document read, in bytes. A YAML tree takes a hundred times its text in memory.
  public static let maximumSize = 16 << 20

  public var workloads: [Workload.Record]
  public var services: [Service.Record]
  public var policies: [AuthorizationPolicy]

  public init(
    workloads: [Workload.Record] = [], services: [Service.Record] = [], policies: [AuthorizationPolicy] = []
  ) {
    self.workloads = workloads
    self.services = services
    self.policies = policies
  }

  /// Parses the bytes of a file; `source` names it in errors.
  public static func parse(
    _ bytes: some Collection<UInt8>, source: String
  ) throws(MeshFileError) -> MeshDocument {
    guard bytes.count <= maximumSize else {
      throw .tooLarge(source: source, bytes: bytes.count, limit: maximumSize)
    }
    guard String(validating: bytes, as: UTF8.self) != nil else { throw .notUTF8(source: source) }
    guard let root = try read(bytes, source) else { return MeshDocument() }
    let problems = ProblemList()
    let document = MeshDocumentDecoder(problems).document(DocumentValue(root, .root, problems))
    guard problems.problems.isEmpty else {
      throw .invalid(source: source, problems: problems.problems, omitted: problems.omitted)
    }
    return document
  }

  /// Parses YAML or JSON text; `source` names it in errors.
  public static func parse(yaml text: String, source: String) throws(MeshFileError) -> MeshDocument {
    try parse(text.utf8, source: source)
  }

  static func read(
    _ bytes: some Collection<UInt8>, _ source: String
  ) throws(MeshFileError) -> YAMLNode? {
    do throws(YAMLError) { return try YAMLReader.document(bytes) } catch {
      if case .anchor(let mark) = error { throw .anchors(source: source, line: mark.line) }
      let problem = MeshFileProblem(
        line: error.mark.line, column: error.mark.column, path: "document", reason: error.reason)
      throw .syntax(source: source, problem)
    }
  }
}

extension MeshDocument {
  /// What turns a mesh loaded from `previous` into one loaded from this document: only what differs.
  public func changes(from previous: MeshDocument = MeshDocument()) -> [MeshChange] {
    var changes: [MeshChange] = []
    let old = previous.indexed
    let new = indexed
    // Policies go in first and out last, so that no workload is without one it lists in between.
    changes += policies.filter { old.policies[$0.key] != $0 }.map(MeshChange.upsertPolicy)
    changes += previous.services.filter { new.services[$0.key] == nil }.map { .removeService($0.key) }
    changes += previous.workloads.filter { new.workloads[$0.uid] == nil }.map { .removeWorkload(uid: $0.uid) }
    changes += workloads.filter { old.workloads[$0.uid] != $0 }.map(MeshChange.upsertWorkload)
    changes += services.filter { old.services[$0.key] != $0 }.map(MeshChange.upsertService)
    changes += previous.policies.filter { new.policies[$0.key] == nil }.map { .removePolicy(key: $0.key) }
    return changes
  }

  private struct Index {
    var workloads: [String: Workload.Record]
    var services: [NamespacedHostname: Service.Record]
    var policies: [String: AuthorizationPolicy]
  }

  private var indexed: Index {
    Index(
      workloads: Dictionary(workloads.map { ($0.uid, $0) }, uniquingKeysWith: { $1 }),
      services: Dictionary(services.map { ($0.key, $0) }, uniquingKeysWith: { $1 }),
      policies: Dictionary(policies.map { ($0.key, $0) }, uniquingKeysWith: { $1 }))
  }
}

extension MeshSnapshot {
  /// A mesh that knows what `document` says and nothing else.
  public init(document: MeshDocument, settings: MeshSettings = MeshSettings()) {
    self = MeshSnapshot(settings: settings).applying(document.changes()).snapshot
  }
}
