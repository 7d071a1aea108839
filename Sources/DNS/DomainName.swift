/// A domain name in its uncompressed wire form, in the case it was written in.
///
/// Always valid: labels of 1...63 bytes, at most 255 bytes in all, ending with the root (RFC 1035 §3.1).
public struct DomainName: Sendable {
  /// Length and bytes of each label, then a zero.
  public let wire: [UInt8]

  /// Longest name, in bytes of its wire form (RFC 1035 §2.3.4).
  public static let longest = 255
  /// Longest label, in bytes.
  public static let longestLabel = 63

  /// Takes bytes that are known to be valid.
  init(valid wire: [UInt8]) { self.wire = wire }

  /// Parses dotted text, with or without the dot at the end. Nil for an empty or too long label or name, and for
  /// anything but visible ASCII: escapes are not understood.
  public init?(_ text: some StringProtocol) {
    var wire: [UInt8] = []
    let labels = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    for (index, label) in labels.enumerated() {
      if label.isEmpty, index == labels.count - 1, index > 0 { break }
      guard (1...Self.longestLabel).contains(label.count), label.allSatisfy({ Self.isPlain($0) }) else { return nil }
      wire.append(UInt8(label.count))
      wire += label
    }
    wire.append(0)
    guard wire.count <= Self.longest else { return nil }
    self.wire = wire
  }

  /// Lower-case dotted text without a dot at the end, for looking up host names. Nil for the root, and for names with
  /// bytes that no host name has: those could be mistaken for another name once written down.
  public var hostname: String? {
    var text: [UInt8] = []
    text.reserveCapacity(wire.count)
    var index = 0
    while index < wire.count, wire[index] != 0 {
      let end = index + 1 + Int(wire[index])
      guard end < wire.count else { return nil }
      if !text.isEmpty { text.append(UInt8(ascii: ".")) }
      for byte in wire[(index + 1)..<end] {
        guard Self.isPlain(byte) else { return nil }
        text.append(Self.lowercased(byte))
      }
      index = end
    }
    return text.isEmpty ? nil : String(decoding: text, as: UTF8.self)
  }

  /// Visible ASCII that means itself in text.
  private static func isPlain(_ byte: UInt8) -> Bool {
    (0x21...0x7e).contains(byte) && byte != UInt8(ascii: ".") && byte != UInt8(ascii: "\\")
  }

  static func lowercased(_ byte: UInt8) -> UInt8 { (0x41...0x5a).contains(byte) ? byte | 0x20 : byte }
}

extension DomainName: Equatable {
  /// Case does not matter (RFC 4343).
  public static func == (left: DomainName, right: DomainName) -> Bool {
    // Lengths of labels are below every letter, so folding leaves them as they are.
    left.wire.count == right.wire.count
      && zip(left.wire, right.wire).allSatisfy { lowercased($0) == lowercased($1) }
  }
}

extension DomainName: CustomStringConvertible {
  /// Dotted text with a dot at the end; bytes that are not plain as `\DDD` (RFC 1035 §5.1).
  public var description: String {
    var text = ""
    var index = 0
    while index < wire.count, wire[index] != 0 {
      let end = min(wire.count, index + 1 + Int(wire[index]))
      for byte in wire[(index + 1)..<end] {
        if Self.isPlain(byte) {
          text.unicodeScalars.append(Unicode.Scalar(byte))
        } else {
          text += "\\\(byte / 100)\(byte / 10 % 10)\(byte % 10)"
        }
      }
      text += "."
      index = end
    }
    return text.isEmpty ? "." : text
  }
}
