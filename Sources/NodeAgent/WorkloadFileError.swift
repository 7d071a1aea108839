import Vocabulary

/// What is wrong with a file of workloads, and where.
public struct WorkloadFileError: CodedError, Equatable {
  public enum Reason: Equatable, Sendable {
    case empty
    case tooLarge(limit: Int)
    case tooManyWorkloads(limit: Int)
    case notText
    case tooDeep
    case alias
    case syntax(String)
    case unknownKey(String, known: [String])
    case missingKey(String)
    case wrongType(key: String, expected: String)
    case badValue(key: String, value: String, expected: String)
    case bothLocations
    case repeatedUID(String, otherFile: String)
    case unreadable(String)
  }

  /// The file's path.
  public let file: String
  /// Counted from 1; nil where the whole file is meant.
  public let line: Int?
  public let reason: Reason

  public init(file: String, line: Int?, reason: Reason) {
    self.file = file
    self.line = line
    self.reason = reason
  }

  public var code: String {
    switch reason {
    case .empty: "WORKLOAD_FILE_EMPTY"
    case .tooLarge, .tooManyWorkloads, .tooDeep: "WORKLOAD_FILE_TOO_LARGE"
    case .notText, .syntax, .alias: "WORKLOAD_FILE_NOT_YAML"
    case .unknownKey: "WORKLOAD_FILE_UNKNOWN_KEY"
    case .missingKey: "WORKLOAD_FILE_MISSING_KEY"
    case .wrongType, .badValue, .bothLocations: "WORKLOAD_FILE_BAD_VALUE"
    case .repeatedUID: "WORKLOAD_UID_REPEATED"
    case .unreadable: "WORKLOAD_FILE_UNREADABLE"
    }
  }

  public var summary: String { "\(file)\(line.map { ":\($0)" } ?? ""): \(sentence)" }

  private var sentence: String {
    switch reason {
    case .empty: "the file is empty"
    case .tooLarge(let limit): "the file is larger than \(limit) bytes"
    case .tooManyWorkloads(let limit): "more than \(limit) workloads"
    case .notText: "the file is not UTF-8 text"
    case .tooDeep: "the file is nested too deeply"
    case .alias: "YAML anchors and aliases are not read"
    case .syntax(let problem): "not YAML: \(problem)"
    case .unknownKey(let key, let known): "unknown key `\(key)`; known are \(known.joined(separator: ", "))"
    case .missingKey(let key): "`\(key)` is missing"
    case .wrongType(let key, let expected): "`\(key)` must be \(expected)"
    case .badValue(let key, let value, let expected): "`\(key)` is `\(value)`, but must be \(expected)"
    case .bothLocations: "`netns`, `pid` and `unit` exclude each other"
    case .repeatedUID(let uid, let other): "uid \(uid) is also in \(other), which counts"
    case .unreadable(let problem): "cannot be read: \(problem)"
    }
  }

  public var remedy: String? {
    switch reason {
    case .empty: "to take its workloads out of the mesh, remove the file"
    case .repeatedUID: "give each workload its own uid, or its own namespace and name"
    default: "what the file said before stays in force until it is corrected"
    }
  }
}
