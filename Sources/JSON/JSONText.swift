extension JSONValue {
  /// The value as JSON text without white space.
  public var text: String { String(decoding: bytes, as: UTF8.self) }

  /// The value as JSON text without white space, in UTF-8.
  public var bytes: [UInt8] {
    var writer = JSONWriter(isIndented: false)
    writer.write(self)
    return writer.bytes
  }

  /// The value as JSON text for people: two spaces a level, one member or element a line, a newline at the end.
  public var indentedBytes: [UInt8] {
    var writer = JSONWriter(isIndented: true)
    writer.write(self)
    return writer.bytes + [0x0a]
  }
}

private struct JSONWriter {
  let isIndented: Bool
  var bytes: [UInt8] = []
  private var level = 0

  init(isIndented: Bool) { self.isIndented = isIndented }

  mutating func write(_ value: JSONValue) {
    switch value {
    case .null: write("null")
    case .bool(let value): write(value ? "true" : "false")
    case .number(let number): write(number.text)
    case .string(let text): quote(text)
    case .array(let elements):
      enclose("[", elements, "]") { $0.write($1) }
    case .object(let object):
      enclose("{", object.members, "}") { writer, member in
        writer.quote(member.key)
        writer.write(writer.isIndented ? ": " : ":")
        writer.write(member.value)
      }
    }
  }

  private mutating func enclose<Item>(
    _ open: String, _ items: [Item], _ close: String, _ item: (inout JSONWriter, Item) -> Void
  ) {
    write(open)
    level += 1
    for (index, element) in items.enumerated() {
      if index > 0 { write(",") }
      newLine()
      item(&self, element)
    }
    level -= 1
    if !items.isEmpty { newLine() }
    write(close)
  }

  private mutating func newLine() {
    guard isIndented else { return }
    write("\n")
    for _ in 0..<level { write("  ") }
  }

  private mutating func write(_ text: String) { bytes += text.utf8 }

  private mutating func quote(_ text: String) {
    bytes.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
      case 0x0a: write("\\n")
      case 0x0d: write("\\r")
      case 0x09: write("\\t")
      case 0..<0x20:
        write(byte < 0x10 ? "\\u000" : "\\u00")
        write(String(byte, radix: 16))
      default: bytes.append(byte)
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }
}
