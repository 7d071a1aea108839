/// The name of a network interface that the kernel could hold.
///
/// The annotation that names interfaces comes from users (redirection.md, limit 10): a name is proven usable before it
/// reaches a rule, so that one odd annotation cannot make a whole table unwritable.
public struct InterfaceName: Hashable, Sendable, CustomStringConvertible {
  /// 1...15 bytes, without `/` and white space.
  public let text: String

  /// Nil when the kernel could not have an interface of this name (`dev_valid_name` refuses white space, `/` and `:`), or when the name ends in `+`,
  /// which rules read as a wildcard.
  public init?(_ text: String) {
    let bytes = text.utf8
    guard (1...15).contains(bytes.count), text != ".", text != "..", bytes.last != UInt8(ascii: "+"),
      // 0xa0 is white space to the kernel, which reads names as Latin-1.
      bytes.allSatisfy({ $0 > 0x20 && $0 != 0x7f && $0 != 0xa0 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") })
    else { return nil }
    self.text = text
  }

  public var description: String { text }
}
