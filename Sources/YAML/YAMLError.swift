import Vocabulary

/// Why a text was not read as YAML. Nothing of it is used then.
public enum YAMLError: CodedError, Hashable {
  case syntax(YAMLMark, String)
  /// Anchors and aliases can describe exponentially much in few bytes, and nothing that is read here needs them.
  case anchor(YAMLMark)
  case tooDeep(YAMLMark, limit: Int)
  case repeatedKey(YAMLMark, String)
  case tooManyDocuments(YAMLMark, limit: Int)

  public var mark: YAMLMark {
    switch self {
    case .syntax(let mark, _), .anchor(let mark), .tooDeep(let mark, _), .repeatedKey(let mark, _),
      .tooManyDocuments(let mark, _):
      mark
    }
  }

  public var code: String {
    switch self {
    case .syntax: "YAML_SYNTAX"
    case .anchor: "YAML_ANCHOR"
    case .tooDeep: "YAML_TOO_DEEP"
    case .repeatedKey: "YAML_REPEATED_KEY"
    case .tooManyDocuments: "YAML_TOO_MANY_DOCUMENTS"
    }
  }

  public var summary: String { "line \(mark.line), column \(mark.column): \(reason)" }

  /// What is wrong, without the place.
  public var reason: String {
    switch self {
    case .syntax(_, let problem): problem
    case .anchor: "YAML anchors and aliases are not read"
    case .tooDeep(_, let limit): "nested more than \(limit) deep"
    case .repeatedKey(_, let key): "the key \(key.prefix(80)) is there twice in one map"
    case .tooManyDocuments(_, let limit): "more than \(limit) documents"
    }
  }

  public var remedy: String? {
    switch self {
    case .syntax: "check indentation and quotes near that line"
    case .anchor: "write the value out where it is used; quote it if it only looks like an anchor"
    case .tooDeep, .repeatedKey, .tooManyDocuments: "check the text near that line"
    }
  }
}
