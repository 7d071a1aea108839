/// Reads JSON text strictly (RFC 8259): UTF-8, one value, nothing after it but white space.
extension JSONValue {
  /// What is read without being told otherwise.
  public struct Limits: Sendable {
    public var bytes: Int
    /// Arrays and objects within each other; parsing uses the stack.
    public var depth: Int

    public init(bytes: Int = 16 << 20, depth: Int = 64) {
      self.bytes = bytes
      self.depth = depth
    }
  }

  /// Throws ``JSONError``. Any bytes are safe to pass. Surrogate escapes without a partner become U+FFFD, as in Go.
  public static func parse(_ bytes: some Collection<UInt8>, limits: Limits = Limits()) throws(JSONError) -> JSONValue {
    guard bytes.count <= limits.bytes else { throw .tooLarge(limit: limits.bytes) }
    var parser = JSONParser(Array(bytes), depth: limits.depth)
    return try parser.document()
  }

  /// The members of the object that `bytes` hold, each with the bytes of its value just as they were written.
  ///
  /// The whole text is checked as by ``parse(_:limits:)``. Throws ``JSONError``, also when it is no object.
  public static func sourceOfMembers(
    _ bytes: [UInt8], limits: Limits = Limits()
  ) throws(JSONError) -> [(key: String, value: ArraySlice<UInt8>)] {
    guard bytes.count <= limits.bytes else { throw .tooLarge(limit: limits.bytes) }
    var parser = JSONParser(bytes, depth: limits.depth)
    return try parser.membersOfDocument()
  }
}

struct JSONParser {
  private let bytes: [UInt8]
  private let deepest: Int
  private var position = 0
  private var depth = 0

  init(_ bytes: [UInt8], depth: Int) {
    self.bytes = bytes
    deepest = depth
  }

  mutating func document() throws(JSONError) -> JSONValue {
    skipSpace()
    let value = try value()
    try end()
    return value
  }

  mutating func membersOfDocument() throws(JSONError) -> [(key: String, value: ArraySlice<UInt8>)] {
    skipSpace()
    guard next == UInt8(ascii: "{") else { throw wrong("an object") }
    var members: [(key: String, value: ArraySlice<UInt8>)] = []
    try self.members { (parser, key) throws(JSONError) in
      let start = parser.position
      _ = try parser.value()
      members.append((key, parser.bytes[start..<parser.position]))
    }
    try end()
    return members
  }

  // MARK: Values

  private mutating func value() throws(JSONError) -> JSONValue {
    switch next {
    case UInt8(ascii: "{"):
      var members: [JSONObject.Member] = []
      try self.members { (parser, key) throws(JSONError) in
        members.append(JSONObject.Member(key: key, value: try parser.value()))
      }
      return .object(JSONObject(members))
    case UInt8(ascii: "["): return .array(try elements())
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case UInt8(ascii: "-"), .some(UInt8(ascii: "0")...UInt8(ascii: "9")): return .number(try number())
    default: throw wrong("a value")
    }
  }

  private mutating func members(
    _ member: (inout JSONParser, String) throws(JSONError) -> Void
  ) throws(JSONError) {
    try descend()
    if closes(UInt8(ascii: "}")) { return }
    while true {
      guard next == UInt8(ascii: "\"") else { throw wrong("the name of a member") }
      let key = try string()
      skipSpace()
      try take(UInt8(ascii: ":"), "a colon")
      skipSpace()
      try member(&self, key)
      if closes(UInt8(ascii: "}")) { return }
      try take(UInt8(ascii: ","), "a comma or the end of the object")
      skipSpace()
    }
  }

  private mutating func elements() throws(JSONError) -> [JSONValue] {
    try descend()
    var elements: [JSONValue] = []
    if closes(UInt8(ascii: "]")) { return elements }
    while true {
      elements.append(try value())
      if closes(UInt8(ascii: "]")) { return elements }
      try take(UInt8(ascii: ","), "a comma or the end of the array")
      skipSpace()
    }
  }

  private mutating func word(_ word: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
    for index in 0..<word.utf8CodeUnitCount {
      guard next == word.utf8Start[index] else { throw wrong("\(word)") }
      position += 1
    }
    return value
  }

  private mutating func number() throws(JSONError) -> JSONNumber {
    let start = position
    if next == UInt8(ascii: "-") { position += 1 }
    if next == UInt8(ascii: "0") { position += 1 } else { try digits() }
    if next == UInt8(ascii: ".") {
      position += 1
      try digits()
    }
    if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
      position += 1
      if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { position += 1 }
      try digits()
    }
    return JSONNumber(checked: String(decoding: bytes[start..<position], as: UTF8.self))
  }

  private mutating func digits() throws(JSONError) {
    let start = position
    while let byte = next, UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte { position += 1 }
    guard position > start else { throw wrong("a digit") }
  }

  // MARK: Strings

  private mutating func string() throws(JSONError) -> String {
    let opening = position
    position += 1
    let start = position
    while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { position += 1 }
    guard next == UInt8(ascii: "\\") else {
      let text = bytes[start..<position]
      try take(UInt8(ascii: "\""), "the end of the string")
      return try decoded(text, at: opening)
    }
    var unescaped = Array(bytes[start..<position])
    while let byte = next, byte != UInt8(ascii: "\"") {
      guard byte >= 0x20 else { throw wrong("the end of the string") }
      position += 1
      if byte == UInt8(ascii: "\\") { try escape(into: &unescaped) } else { unescaped.append(byte) }
    }
    try take(UInt8(ascii: "\""), "the end of the string")
    return try decoded(unescaped[...], at: opening)
  }

  private func decoded(_ text: ArraySlice<UInt8>, at opening: Int) throws(JSONError) -> String {
    guard let string = String(validating: text, as: UTF8.self) else {
      throw .unexpected(at: opening, line: line(of: opening), expected: "a string in UTF-8")
    }
    return string
  }

  private mutating func escape(into text: inout [UInt8]) throws(JSONError) {
    guard let byte = next else { throw .truncated }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0c)
    case UInt8(ascii: "n"): text.append(0x0a)
    case UInt8(ascii: "r"): text.append(0x0d)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"):
      var unit = try hexadecimal()
      if 0xd800...0xdbff ~= unit, next == UInt8(ascii: "\\"), position + 1 < bytes.count,
        bytes[position + 1] == UInt8(ascii: "u")
      {
        let retreat = position
        position += 2
        let low = try hexadecimal()
        if 0xdc00...0xdfff ~= low {
          unit = 0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00)
        } else {
          position = retreat
        }
      }
      text += Array(String(Unicode.Scalar(unit) ?? "\u{fffd}").utf8)
    default:
      position -= 1
      throw wrong("an escape")
    }
  }

  private mutating func hexadecimal() throws(JSONError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = next else { throw .truncated }
      guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue else { throw wrong("four hexadecimal digits") }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }

  // MARK: Bytes

  private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { position += 1 }
  }

  private mutating func take(_ byte: UInt8, _ expected: String) throws(JSONError) {
    guard next == byte else { throw wrong(expected) }
    position += 1
  }

  /// Into an array or object, whose opening byte is next.
  private mutating func descend() throws(JSONError) {
    guard depth < deepest else { throw .tooDeep(limit: deepest) }
    depth += 1
    position += 1
    skipSpace()
  }

  /// Out of it, if its closing byte is next.
  private mutating func closes(_ byte: UInt8) -> Bool {
    skipSpace()
    guard next == byte else { return false }
    position += 1
    depth -= 1
    return true
  }

  private mutating func end() throws(JSONError) {
    skipSpace()
    guard next == nil else { throw wrong("the end of the text") }
  }

  private func wrong(_ expected: String) -> JSONError {
    next == nil ? .truncated : .unexpected(at: position, line: line(of: position), expected: expected)
  }

  private func line(of offset: Int) -> Int {
    bytes[..<offset].count { $0 == 0x0a } + 1
  }
}
