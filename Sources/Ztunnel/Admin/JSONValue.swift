/// A JSON value, and its text as `config_dump` has it: two spaces, keys sorted.
indirect enum JSONValue: Sendable, Equatable {
  case null
  case boolean(Bool)
  case integer(Int64)
  case string(String)
  case array([JSONValue])
  /// Members whose value is nil are left out.
  case object([String: JSONValue?])

  /// Appends the text; lines after the first begin with `depth` steps.
  func append(to bytes: inout [UInt8], depth: Int = 0) {
    switch self {
    case .null: bytes.append(contentsOf: "null".utf8)
    case .boolean(let value): bytes.append(contentsOf: (value ? "true" : "false").utf8)
    case .integer(let value): bytes.append(contentsOf: "\(value)".utf8)
    case .string(let text): Self.append(text, to: &bytes)
    case .array(let values):
      Self.append(values.count, "[", "]", to: &bytes, depth) { index, bytes in
        values[index].append(to: &bytes, depth: depth + 1)
      }
    case .object(let members):
      let present = members.compactMap { key, value in value.map { (key, $0) } }.sorted { $0.0 < $1.0 }
      Self.append(present.count, "{", "}", to: &bytes, depth) { index, bytes in
        Self.append(present[index].0, to: &bytes)
        bytes.append(contentsOf: ": ".utf8)
        present[index].1.append(to: &bytes, depth: depth + 1)
      }
    }
  }

  /// The whole text with a newline at its end.
  var document: [UInt8] {
    var bytes: [UInt8] = []
    append(to: &bytes)
    bytes.append(10)
    return bytes
  }

  /// The text in one line, for events.
  var line: [UInt8] {
    // A newline inside a string is escaped, so that those of the layout are the only ones.
    document.split(separator: 10).flatMap { line in line.drop { $0 == 0x20 } }
  }

  private static func append(
    _ count: Int, _ open: String, _ close: String, to bytes: inout [UInt8], _ depth: Int,
    _ member: (Int, inout [UInt8]) -> Void
  ) {
    bytes.append(contentsOf: open.utf8)
    for index in 0..<count {
      bytes.append(contentsOf: (index == 0 ? "\n" : ",\n").utf8)
      bytes.append(contentsOf: repeatElement(0x20, count: 2 * (depth + 1)))
      member(index, &bytes)
    }
    if count > 0 {
      bytes.append(10)
      bytes.append(contentsOf: repeatElement(0x20, count: 2 * depth))
    }
    bytes.append(contentsOf: close.utf8)
  }

  private static func append(_ text: String, to bytes: inout [UInt8]) {
    let digits = Array("0123456789abcdef".utf8)
    bytes.append(0x22)
    for byte in text.utf8 {
      switch byte {
      case 0x22, 0x5c: bytes.append(contentsOf: [0x5c, byte])
      case 10: bytes.append(contentsOf: "\\n".utf8)
      case 0..<0x20, 0x7f:
        bytes.append(contentsOf: "\\u00".utf8)
        bytes.append(contentsOf: [digits[Int(byte >> 4)], digits[Int(byte & 15)]])
      default: bytes.append(byte)
      }
    }
    bytes.append(0x22)
  }
}

extension JSONValue: ExpressibleByStringLiteral {
  init(stringLiteral value: String) { self = .string(value) }
}

extension JSONValue {
  /// The text, or nil where it is empty: such members are left out.
  static func unlessEmpty(_ text: String) -> JSONValue? { text.isEmpty ? nil : .string(text) }

  static func strings(_ values: some Sequence<String>) -> JSONValue { .array(values.map { .string($0) }) }

  /// The first letter made upper case: how the reference writes enumerations.
  static func capitalized(_ text: String) -> JSONValue { .string(text.prefix(1).uppercased() + text.dropFirst()) }
}
