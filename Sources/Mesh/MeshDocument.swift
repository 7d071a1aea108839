import Vocabulary
import Yams

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
    guard let text = String(validating: bytes, as: UTF8.self) else { throw .notUTF8(source: source) }
    return try parse(yaml: text, source: source)
  }

  /// Parses YAML or JSON text; `source` names it in errors.
  public static func parse(yaml text: String, source: String) throws(MeshFileError) -> MeshDocument {
    let size = text.utf8.count
    guard size <= maximumSize else { throw .tooLarge(source: source, bytes: size, limit: maximumSize) }
    if let line = lineOfAnchor(in: text.utf8) { throw .anchors(source: source, line: line) }
    guard let root = try compose(text, source) else { return MeshDocument() }
    let problems = ProblemList()
    let document = MeshDocumentDecoder(problems).document(DocumentValue(root, .root, problems))
    guard problems.problems.isEmpty else {
      throw .invalid(source: source, problems: problems.problems, omitted: problems.omitted)
    }
    return document
  }

  private static func compose(_ text: String, _ source: String) throws(MeshFileError) -> Node? {
    do {
      return try Yams.compose(yaml: text, .basic, .default, .utf8)
    } catch let error as YamlError {
      throw .syntax(source: source, MeshFileProblem(error, in: text))
    } catch {
      throw .syntax(source: source, MeshFileProblem(line: 0, column: 0, path: "document", reason: "\(error)"))
    }
  }

  /// The line of the first thing that could be an anchor, so that no alias can make a small file a huge document.
  ///
  /// An anchor is `&` and a name where a value may start. Looking at bytes finds all of them, and perhaps one in the
  /// middle of a text, which then has to be written without the space before it.
  private static func lineOfAnchor(in text: String.UTF8View) -> Int? {
    var line = 1
    var previous = UInt8(ascii: "\n")
    var isComment = false
    var isLineBlank = true
    var isPending = false
    for byte in text {
      if isPending, !isComment, isNameByte(byte) { return line }
      isPending = byte == UInt8(ascii: "&") && !isNameByte(previous) && !isQuote(previous)
      switch byte {
      case UInt8(ascii: "\n"):
        line += 1
        (isComment, isLineBlank) = (false, true)
      case UInt8(ascii: " "), UInt8(ascii: "\t"): break
      default:
        if isLineBlank, byte == UInt8(ascii: "#") { isComment = true }
        isLineBlank = false
      }
      previous = byte
    }
    return nil
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
      true
    default: false
    }
  }

  private static func isQuote(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") }
}

extension MeshFileProblem {
  fileprivate init(_ error: YamlError, in text: String) {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      self.init(line: mark.line, column: mark.column, path: "document", reason: problem)
    case .reader(let problem, let offset, _, _):
      let line = text.utf8.prefix(offset ?? 0).reduce(1) { $1 == UInt8(ascii: "\n") ? $0 + 1 : $0 }
      self.init(line: line, column: 0, path: "document", reason: problem)
    case .duplicatedKeysInMapping(let duplicates, let context):
      self.init(
        line: context.mark.line, column: context.mark.column, path: "document",
        reason: "the key \(duplicates.prefix(3).joined(separator: ", ")) is there twice in one map")
    default:
      self.init(line: 0, column: 0, path: "document", reason: "the text cannot be read")
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
