import Vocabulary

/// One thing that is wrong in a mesh file, and where.
public struct MeshFileProblem: Hashable, Sendable, CustomStringConvertible {
  /// From 1; 0 where the position is not known.
  public let line: Int
  /// From 1; 0 where the position is not known.
  public let column: Int
  /// Such as `workloads[2].waypoint.hboneMtlsPort`.
  public let path: String
  public let reason: String

  public var description: String { "line \(line), column \(column): \(path): \(reason)" }
}

/// Why a mesh file was not loaded. Nothing of a file with an error is used (xds.md §7).
public enum MeshFileError: CodedError, Hashable {
  case tooLarge(source: String, bytes: Int, limit: Int)
  case notUTF8(source: String)
  case syntax(source: String, MeshFileProblem)
  case anchors(source: String, line: Int)
  /// The first problems, and how many more there are.
  case invalid(source: String, problems: [MeshFileProblem], omitted: Int)

  public var code: String {
    switch self {
    case .tooLarge: "MESH_FILE_TOO_LARGE"
    case .notUTF8: "MESH_FILE_NOT_UTF8"
    case .syntax: "MESH_FILE_SYNTAX"
    case .anchors: "MESH_FILE_ANCHORS"
    case .invalid: "MESH_FILE_INVALID"
    }
  }

  public var summary: String {
    switch self {
    case .tooLarge(let source, let bytes, let limit):
      return "\(source) has \(bytes) bytes, more than the \(limit) that are read"
    case .notUTF8(let source): return "\(source) is not UTF-8 text"
    case .syntax(let source, let problem):
      return "\(source) is not YAML: line \(problem.line), column \(problem.column): \(problem.reason)"
    case .anchors(let source, let line):
      return "\(source) has a YAML anchor on line \(line), and anchors and aliases are not accepted"
    case .invalid(let source, let problems, let omitted):
      let more = omitted > 0 ? ["and \(omitted) more"] : []
      return "\(source) was not loaded: " + (problems.map(\.description) + more).joined(separator: "; ")
    }
  }

  public var remedy: String? {
    switch self {
    case .tooLarge: "split the mesh or use a control plane"
    case .notUTF8: "save the file as UTF-8"
    case .syntax: "check indentation and quotes near that line"
    case .anchors: "write the value out where it is used; quote it if it only looks like an anchor"
    case .invalid: "nothing was loaded; correct every line named and load the file again"
    }
  }
}
