import Vocabulary

/// Why bytes are no JSON text.
public enum JSONError: CodedError, Equatable {
  /// Something else stands at this byte (counted from 0) than JSON allows there.
  case unexpected(at: Int, line: Int, expected: String)
  /// The text ends within a value.
  case truncated
  /// Arrays and objects lie deeper in each other than is read.
  case tooDeep(limit: Int)
  /// More bytes than are read.
  case tooLarge(limit: Int)

  public var code: String {
    switch self {
    case .unexpected: "JSON_SYNTAX"
    case .truncated: "JSON_TRUNCATED"
    case .tooDeep: "JSON_TOO_DEEP"
    case .tooLarge: "JSON_TOO_LARGE"
    }
  }

  public var summary: String {
    switch self {
    case .unexpected(let offset, let line, let expected): "line \(line), byte \(offset): expected \(expected)"
    case .truncated: "the JSON text ends in the middle of a value"
    case .tooDeep(let limit): "more than \(limit) arrays and objects within each other"
    case .tooLarge(let limit): "more than \(limit) bytes"
    }
  }
}
