import Linux
import Mesh
import Vocabulary

/// Why a mesh file, or a new version of it, is not in force.
public enum MeshFileSourceError: CodedError, Hashable {
  case unreadable(path: String, reason: SystemFailure)
  case notRegularFile(path: String)
  /// Nothing in it: more likely a writer that is not done than a mesh that is gone.
  case empty(source: String)
  case invalid(source: String, MeshFileError)

  /// The system call that failed, in a form that can be compared.
  public struct SystemFailure: Hashable, Sendable {
    public let code: String
    public let reason: String

    init(_ error: SystemError) {
      code = error.code
      reason = error.reason
    }
  }

  public var code: String {
    switch self {
    case .unreadable: "MESH_FILE_UNREADABLE"
    case .notRegularFile: "MESH_FILE_NOT_REGULAR"
    case .empty: "MESH_FILE_EMPTY"
    case .invalid(_, let error): error.code
    }
  }

  public var summary: String {
    switch self {
    case .unreadable(let path, let failure): "the mesh file \(path) cannot be read: \(failure.reason)"
    case .notRegularFile(let path): "\(path) is no regular file"
    case .empty(let source): "\(source) is empty"
    case .invalid(let source, _): "\(source) is no valid mesh: \(reasons.joined(separator: "; "))"
    }
  }

  public var remedy: String? {
    switch self {
    case .unreadable: "check that the file is there, and that the proxy's user may read it and enter its directories"
    case .notRegularFile: "give the path of a file, or of a link to one"
    case .empty: "write {} for a mesh without workloads, services and policies"
    case .invalid(_, let error): error.remedy
    }
  }

  /// One line for each thing that is wrong, `file:line:column: path: reason` where the place is known.
  public var reasons: [String] {
    switch self {
    case .unreadable, .notRegularFile, .empty: [summary]
    case .invalid(let source, .syntax(_, let problem)): [Self.line(source, problem)]
    case .invalid(let source, .anchors(_, let line)):
      ["\(source):\(line): YAML anchors and aliases are not accepted"]
    case .invalid(let source, .invalid(_, let problems, let omitted)):
      problems.map { Self.line(source, $0) } + (omitted > 0 ? ["\(source): and \(omitted) more"] : [])
    case .invalid(_, let error): [error.summary]
    }
  }

  private static func line(_ source: String, _ problem: MeshFileProblem) -> String {
    let place =
      switch (problem.line, problem.column) {
      case (0, _): source
      case (let line, 0): "\(source):\(line)"
      case (let line, let column): "\(source):\(line):\(column)"
      }
    return "\(place): \(problem.path): \(problem.reason)"
  }
}
