/// A place in a text.
public struct YAMLMark: Hashable, Sendable {
  /// From 1.
  public let line: Int
  /// In characters, from 1.
  public let column: Int

  public init(line: Int, column: Int) {
    self.line = line
    self.column = column
  }
}

/// One value of a YAML document, as written: what a plain word means is for the reader to decide, who knows what is
/// expected there.
public struct YAMLNode: Sendable {
  public enum Content: Sendable {
    /// `isPlain`: without quotes and not a block of text.
    case scalar(String, isPlain: Bool)
    case sequence([YAMLNode])
    /// In the order of the text; no two keys that are scalars are equal.
    case mapping([(key: YAMLNode, value: YAMLNode)])
  }

  public let content: Content
  /// Such as `!Exact`, or one of YAML's own, resolved to `tag:yaml.org,2002:…`; nil where none is written.
  public let tag: String?
  public let mark: YAMLMark

  public init(_ content: Content, tag: String? = nil, mark: YAMLMark) {
    self.content = content
    self.tag = tag
    self.mark = mark
  }

  /// The text of a scalar.
  public var scalar: String? {
    if case .scalar(let text, _) = content { text } else { nil }
  }

  /// The text of a scalar without quotes.
  public var plainScalar: String? {
    if case .scalar(let text, isPlain: true) = content { text } else { nil }
  }

  public var sequence: [YAMLNode]? {
    if case .sequence(let elements) = content { elements } else { nil }
  }

  public var mapping: [(key: YAMLNode, value: YAMLNode)]? {
    if case .mapping(let entries) = content { entries } else { nil }
  }

  /// The value of a mapping's key.
  public subscript(key: String) -> YAMLNode? {
    mapping?.first { $0.key.scalar == key }?.value
  }
}
