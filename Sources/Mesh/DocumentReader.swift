import Vocabulary
import YAML

/// Collects what is wrong in a document, up to a bound.
final class ProblemList {
  static let limit = 20

  private(set) var problems: [MeshFileProblem] = []
  private(set) var omitted = 0
  /// The document is another program's dump: what it has beyond what is read here is no mistake.
  let isDump: Bool

  init(isDump: Bool = false) { self.isDump = isDump }

  func add(_ reason: String, at mark: YAMLMark, _ path: KeyPathText) {
    guard problems.count < Self.limit else {
      omitted += 1
      return
    }
    problems.append(
      MeshFileProblem(line: mark.line, column: mark.column, path: path.text, reason: reason))
  }
}

/// Where a value is in the document; written out only when there is something to report.
final class KeyPathText {
  private enum Step {
    case key(String)
    case index(Int)
  }

  private let parent: KeyPathText?
  private let step: Step?

  private init(_ parent: KeyPathText?, _ step: Step?) {
    self.parent = parent
    self.step = step
  }

  static var root: KeyPathText { KeyPathText(nil, nil) }
  func key(_ name: String) -> KeyPathText { KeyPathText(self, .key(name)) }
  func index(_ index: Int) -> KeyPathText { KeyPathText(self, .index(index)) }

  var text: String {
    let isTop = parent?.step == nil
    let before = parent?.text ?? ""
    return switch step {
    case .key(let name): isTop ? name : "\(before).\(name)"
    case .index(let index): isTop ? "[\(index)]" : "\(before)[\(index)]"
    case nil: "document"
    }
  }
}

/// One value of a document, read into what the model needs. Every reader returns nil after it has reported why.
struct DocumentValue {
  let node: YAMLNode
  let path: KeyPathText
  let problems: ProblemList

  init(_ node: YAMLNode, _ path: KeyPathText, _ problems: ProblemList) {
    self.node = node
    self.path = path
    self.problems = problems
  }

  var line: Int { node.mark.line }

  func report(_ reason: String) { problems.add(reason, at: node.mark, path) }

  private func fail<Value>(_ reason: String) -> Value? {
    report(reason)
    return nil
  }

  /// `null`, `~` or nothing at all.
  var isNull: Bool {
    guard let plain else { return false }
    return ["", "~", "null", "Null", "NULL"].contains(plain)
  }

  /// A tag of the document's own, such as `!Exact`; nil without one, or for one of YAML's standard tags.
  var tag: String? {
    guard let tag = node.tag, tag != "!", !tag.hasPrefix("tag:yaml.org,2002:") else { return nil }
    return tag
  }

  // MARK: Scalars

  /// Text without control characters.
  func string() -> String? {
    guard let scalar = node.scalar, tag == nil else { return fail("expected text") }
    guard scalar.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else {
      return fail("control characters are not accepted")
    }
    return scalar
  }

  /// Visible ASCII without a slash, as identities and keys are made of such parts.
  func name(allowsEmpty: Bool = false) -> String? {
    guard let text = string() else { return nil }
    guard allowsEmpty || !text.isEmpty else { return fail("must not be empty") }
    guard text.utf8.allSatisfy({ (0x21...0x7e).contains($0) && $0 != UInt8(ascii: "/") }) else {
      return fail("expected visible ASCII characters without a slash")
    }
    return text
  }

  func boolean() -> Bool? {
    switch plain {
    case "true": true
    case "false": false
    default: fail("expected true or false")
    }
  }

  func integer<Value: FixedWidthInteger>(in range: ClosedRange<Value>) -> Value? {
    guard let plain else { return fail("expected an integer from \(range.lowerBound) to \(range.upperBound)") }
    return Self.integer(plain, in: range)
      ?? fail("expected an integer from \(range.lowerBound) to \(range.upperBound), found \"\(plain.shortened)\"")
  }

  private var plain: String? {
    tag == nil ? node.plainScalar : nil
  }

  /// Decimal digits only: `010` and `0x10` mean different numbers to different readers.
  static func integer<Value: FixedWidthInteger>(_ text: String, in range: ClosedRange<Value>) -> Value? {
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), text == "0" || text.first != "0",
      let value = Value(text), range.contains(value)
    else { return nil }
    return value
  }

  /// One of a closed set of words, case-sensitive.
  func choice<Value>(_ allowed: [(String, Value)]) -> Value? {
    guard let text = string() else { return nil }
    return allowed.first { $0.0 == text }?.1
      ?? fail("\"\(text.shortened)\" is not one of \(allowed.map(\.0).joined(separator: ", "))")
  }

  func parsed<Value>(as what: String, _ parse: (String) -> Value?) -> Value? {
    guard let text = string() else { return nil }
    return parse(text) ?? fail("expected \(what), found \"\(text.shortened)\"")
  }

  // MARK: Collections

  func list<Element>(_ element: (DocumentValue) -> Element?) -> [Element]? {
    guard let sequence = node.sequence, tag == nil else { return fail("expected a list") }
    return sequence.enumerated().compactMap { index, node in
      element(DocumentValue(node, path.index(index), problems))
    }
  }

  func fields() -> DocumentFields? {
    guard let mapping = node.mapping, tag == nil else { return fail("expected a map of keys and values") }
    return DocumentFields(mapping, self)
  }

  /// A map whose keys are data.
  func map<Key: Hashable, Value>(
    key: (DocumentValue) -> Key?, value: (DocumentValue) -> Value?
  ) -> [Key: Value]? {
    guard let mapping = node.mapping, tag == nil else { return fail("expected a map of keys and values") }
    var result: [Key: Value] = [:]
    for (keyNode, valueNode) in mapping {
      let path = path.key(keyNode.scalar?.shortened ?? "?")
      let name = DocumentValue(keyNode, path, problems)
      let content = DocumentValue(valueNode, path, problems)
      guard let key = key(name), let value = value(content) else { continue }
      if result.updateValue(value, forKey: key) != nil { name.report("the key is there twice") }
    }
    return result
  }

  /// Service ports to target ports. Keys may be quoted, as JSON has to.
  func ports() -> [UInt16: UInt16]? {
    map { key in
      key.parsed(as: "a port from 1 to 65535") { Self.integer($0, in: 1...UInt16.max) }
    } value: {
      $0.integer(in: 0...UInt16.max)
    }
  }
}

/// The keys of a map with a fixed set of keys. Each is taken once, and what was never asked for is an error.
struct DocumentFields {
  private let owner: DocumentValue
  private var values: [String: (key: YAMLNode, value: YAMLNode)] = [:]
  private var known: [String] = []

  init(_ mapping: [(key: YAMLNode, value: YAMLNode)], _ owner: DocumentValue) {
    self.owner = owner
    for (key, value) in mapping {
      guard let name = key.scalar else {
        owner.problems.add("expected a text key", at: key.mark, owner.path)
        continue
      }
      values[name] = (key, value)
    }
  }

  /// The value of a key that may be absent; `null` counts as absent.
  mutating func optional(_ key: String) -> DocumentValue? {
    known.append(key)
    guard let entry = values.removeValue(forKey: key) else { return nil }
    let value = DocumentValue(entry.value, owner.path.key(key), owner.problems)
    return value.isNull ? nil : value
  }

  mutating func required(_ key: String) -> DocumentValue? {
    if let value = optional(key) { return value }
    owner.report("\(key) is required")
    return nil
  }

  /// Reports keys nobody asked for, except in a dump.
  func finish() {
    if owner.problems.isDump { return }
    for (name, entry) in values.sorted(by: { $0.key < $1.key }) {
      owner.problems.add(
        "unknown key, expected one of \(known.sorted().joined(separator: ", "))", at: entry.key.mark,
        owner.path.key(name.shortened))
    }
  }
}

extension String {
  /// Enough to recognise a value by.
  fileprivate var shortened: String { utf8.count <= 80 ? self : String(prefix(64)) + "…" }
}

extension DocumentValue {
  /// The same value without its tag.
  var untagged: DocumentValue {
    DocumentValue(YAMLNode(node.content, mark: node.mark), path, problems)
  }

  /// The entry of a map that has exactly one.
  var soleEntry: (key: String, value: DocumentValue)? {
    guard let mapping = node.mapping, mapping.count == 1, let entry = mapping.first, let key = entry.key.scalar
    else { return nil }
    return (key, DocumentValue(entry.value, path.key(key), problems))
  }

  /// Null, an empty list or an empty map.
  var isEmpty: Bool {
    switch node.content {
    case .scalar: isNull
    case .sequence(let elements): elements.isEmpty
    case .mapping(let entries): entries.isEmpty
    }
  }
}
