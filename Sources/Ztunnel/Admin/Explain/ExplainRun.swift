import Glibc
import Linux
import Mesh
import Vocabulary

/// What `ztunnel explain` does: asks a running ztunnel, or a dump, and tries changes of policies on a copy.
public struct ExplainRun {
  public var question: ConnectionQuestion
  /// The path of a dump, `-` for standard input; nil asks the ztunnel at `admin`.
  public var dump: String?
  /// Paths of files with policies that are to be tried.
  public var policyFiles: [String]
  /// Policies, by `namespace/name`, that are to be tried away.
  public var withoutPolicies: [String]
  public var admin: String

  /// What to print, and the exit status.
  public struct Answer: Equatable, Sendable {
    public var text: String
    public var status: Int32
  }

  public init(
    question: ConnectionQuestion, dump: String? = nil, policyFiles: [String] = [], withoutPolicies: [String] = [],
    admin: String = AdminQuery.defaultAddress
  ) {
    self.question = question
    self.dump = dump
    self.policyFiles = policyFiles
    self.withoutPolicies = withoutPolicies
    self.admin = admin
  }

  /// Throws a `CodedError`. With changes to try, the exit status is that of the connection after them.
  public func answer(json: Bool) throws -> Answer {
    if dump == nil, policyFiles.isEmpty, withoutPolicies.isEmpty { return try ask(json: json) }
    let known: DumpedMesh
    if let dump {
      known = try DumpedMesh(try FileBytes.read(dump), source: dump == "-" ? "standard input" : dump)
    } else {
      known = try DumpedMesh(try AdminQuery(address: admin).get("/config_dump").body, source: admin)
    }
    let before = known.mesh.explain(question, served: known.served)
    guard !policyFiles.isEmpty || !withoutPolicies.isEmpty else {
      return Answer(
        text: json ? String(decoding: before.json.document, as: UTF8.self) : before.text,
        status: before.outcome.exitStatus)
    }
    var proposed = ProposedPolicies()
    for path in policyFiles { try proposed.add(try FileBytes.read(path), source: path) }
    for key in withoutPolicies { proposed.remove(key) }
    let (mesh, notes) = proposed.applied(to: known.mesh)
    let after = mesh.explain(question, served: known.served)
    return Answer(
      text: json ? Self.json(before, after, notes) : Self.text(before, after, notes), status: after.outcome.exitStatus)
  }

  private func ask(json: Bool) throws -> Answer {
    let query = try AdminQuery(address: admin)
    let source = "\(question.namespace)/\(question.pod)"
    let answer = try query.get(
      "/explain", query: [("from", source), ("to", "\(question.target)"), ("format", json ? "json" : "text")])
    guard let outcome = answer.headers[ExplainEndpoint.outcomeHeader].flatMap({ Explanation.Outcome(rawValue: $0) })
    else {
      throw AdminQuery.Failure.notUnderstood(query.address)
    }
    return Answer(text: String(decoding: answer.body, as: UTF8.self), status: outcome.exitStatus)
  }

  private static func text(_ before: Explanation, _ after: Explanation, _ notes: [String]) -> String {
    let isSame = before.outcome == after.outcome
    let change =
      isSame
      ? "no change: \(after.outcome.rawValue)" : "\(before.outcome.rawValue)  →  \(after.outcome.rawValue)"
    let remarks = notes.isEmpty ? "" : "\n" + notes.map { "  note: \($0)\n" }.joined()
    return "\(change)\n\(remarks)\n== before ==\n\(before.text)\n== after ==\n\(after.text)"
  }

  private static func json(_ before: Explanation, _ after: Explanation, _ notes: [String]) -> String {
    let value = JSONValue.object([
      "changes": .boolean(before.outcome != after.outcome), "notes": .strings(notes), "before": before.json,
      "after": after.json,
    ])
    return String(decoding: value.document, as: UTF8.self)
  }
}

/// Whole files, for commands.
public enum FileBytes {
  /// Why a file is not read.
  public enum Failure: CodedError, Equatable {
    case cannotRead(path: String, SystemError)
    case tooLarge(path: String, limit: Int)

    public var code: String {
      switch self {
      case .cannotRead: "FILE_NOT_READ"
      case .tooLarge: "FILE_TOO_LARGE"
      }
    }

    public var summary: String {
      switch self {
      case .cannotRead(let path, let error): "cannot read \(path): \(error.reason)"
      case .tooLarge(let path, let limit): "\(path) has more than the \(limit) bytes that are read"
      }
    }
  }

  /// The bytes of the file at `path`, of standard input for `-`. Throws ``Failure``.
  public static func read(_ path: String) throws(Failure) -> [UInt8] {
    do throws(SystemError) {
      guard path != "-" else { return try take(STDIN_FILENO, path) }
      let file = Descriptor(owning: try system("open", path) { open(path, O_RDONLY | O_CLOEXEC) })
      return try take(file.raw, path)
    } catch {
      throw error.number == EFBIG ? .tooLarge(path: path, limit: DumpedMesh.mostBytes) : .cannotRead(path: path, error)
    }
  }

  private static func take(_ raw: CInt, _ path: String) throws(SystemError) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 256 << 10)
    while true {
      let count = try system("read", path) { Glibc.read(raw, &chunk, chunk.count) }
      if count == 0 { return bytes }
      bytes += chunk.prefix(count)
      guard bytes.count <= DumpedMesh.mostBytes else { throw SystemError("read", EFBIG, subject: path) }
    }
  }
}
