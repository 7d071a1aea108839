/// The encoding of bytes in kubeconfig files (RFC 4648 §4).
enum Base64 {
  /// Nil for anything but the standard alphabet with padding; white space is skipped.
  static func decode(_ text: String) -> [UInt8]? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count / 4 * 3)
    var group: UInt32 = 0
    var digits = 0
    var padding = 0
    for character in text.utf8 {
      let value: UInt32
      switch character {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = UInt32(character - UInt8(ascii: "A"))
      case UInt8(ascii: "a")...UInt8(ascii: "z"): value = UInt32(character - UInt8(ascii: "a")) + 26
      case UInt8(ascii: "0")...UInt8(ascii: "9"): value = UInt32(character - UInt8(ascii: "0")) + 52
      case UInt8(ascii: "+"): value = 62
      case UInt8(ascii: "/"): value = 63
      case UInt8(ascii: "="):
        padding += 1
        value = 0
      case UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t"): continue
      default: return nil
      }
      guard padding == 0 || character == UInt8(ascii: "="), padding <= 2 else { return nil }
      group = group << 6 | value
      digits += 1
      if digits == 4 {
        let three = [group >> 16, group >> 8, group].map { UInt8(truncatingIfNeeded: $0) }
        bytes += three.prefix(3 - padding)
        group = 0
        digits = 0
      }
    }
    return digits == 0 ? bytes : nil
  }
}
