import Vocabulary

/// Text put into log lines as bytes, escaped so that no value can end its line, its column or its quotes.
extension [UInt8] {
  /// Longest string value a line carries, in bytes; the rest is cut and marked `…`. Some values are chosen by peers.
  static let longestLogString = 4096

  mutating func append(text: String) { append(contentsOf: text.utf8) }

  mutating func append(integer: some BinaryInteger) { append(contentsOf: String(integer).utf8) }

  /// IPv4 without making a string of it, because every access line carries two or three addresses.
  mutating func append(address: IPAddress) {
    guard case .v4(let value) = address else { return append(text: address.description) }
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: IPAddress.longestDottedQuad) { text in
      let count = IPAddress.write(dottedQuad: value, into: text)
      append(contentsOf: text[..<count])
    }
  }

  mutating func append(address: SocketAddress) {
    switch address.ip.family {
    case .v4: append(address: address.ip)
    case .v6:
      append(UInt8(ascii: "["))
      append(address: address.ip)
      append(UInt8(ascii: "]"))
    }
    append(UInt8(ascii: ":"))
    append(integer: address.port)
  }

  /// In double quotes, escaped for the plain format.
  mutating func append(quoted text: String) {
    append(UInt8(ascii: "\""))
    append(escaped: text, in: .plain, escapingQuotes: true)
    append(UInt8(ascii: "\""))
  }

  /// In double quotes, escaped as RFC 8259 asks.
  mutating func append(jsonString text: String) {
    append(UInt8(ascii: "\""))
    append(escaped: text, in: .json, escapingQuotes: true)
    append(UInt8(ascii: "\""))
  }

  /// Without quotes where a reader can still tell where the value ends, else quoted.
  mutating func append(bare text: String) {
    var text = text
    let isPlainWord = text.withUTF8 { bytes in
      !bytes.isEmpty && bytes.count <= Self.longestLogString
        && bytes.allSatisfy { Self.isPlain($0) && $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "=") }
    }
    if isPlainWord { append(text: text) } else { append(quoted: text) }
  }

  /// Escapes control characters (C0, DEL, C1), so that a value can neither forge a line nor drive a terminal.
  mutating func append(escaped text: String, in format: LogFormat, escapingQuotes: Bool) {
    var text = text
    text.withUTF8 { bytes in
      let kept = Self.cut(bytes, to: Self.longestLogString)
      // Nearly every value is plain, and then it goes in whole.
      if kept == bytes.count, bytes.allSatisfy(Self.isPlain) {
        append(contentsOf: bytes)
        return
      }
      var previous: UInt8 = 0
      for byte in bytes[..<kept] {
        switch byte {
        case UInt8(ascii: "\"") where escapingQuotes, UInt8(ascii: "\\") where escapingQuotes:
          append(UInt8(ascii: "\\"))
          append(byte)
        case UInt8(ascii: "\n"): append(text: "\\n")
        case UInt8(ascii: "\r"): append(text: "\\r")
        case UInt8(ascii: "\t"): append(text: "\\t")
        case 0..<0x20, 0x7f: append(codePoint: byte, in: format)
        // C1 controls are U+0080...U+009F, in UTF-8 0xC2 and one byte of the same value.
        case 0x80..<0xa0 where previous == 0xc2:
          removeLast()
          append(codePoint: byte, in: format)
        default: append(byte)
        }
        previous = byte
      }
      if kept < bytes.count { append(text: "…") }
    }
  }

  /// Nothing that any format escapes.
  private static func isPlain(_ byte: UInt8) -> Bool {
    byte >= 0x20 && byte < 0x7f && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\")
  }

  private mutating func append(codePoint: UInt8, in format: LogFormat) {
    let digits = Array("0123456789abcdef".utf8)
    append(text: format == .json ? "\\u00" : "\\u{")
    append(digits[Int(codePoint >> 4)])
    append(digits[Int(codePoint & 15)])
    if format == .plain { append(UInt8(ascii: "}")) }
  }

  /// The longest beginning of at most `limit` bytes that does not end inside a character.
  private static func cut(_ bytes: UnsafeBufferPointer<UInt8>, to limit: Int) -> Int {
    guard bytes.count > limit else { return bytes.count }
    var end = limit
    while end > 0, bytes[end] & 0xc0 == 0x80 { end -= 1 }
    return end
  }
}
