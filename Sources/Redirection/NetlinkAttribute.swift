/// Attributes of a netlink message: length, type, value, each padded to four bytes. Everything read is bounds-checked.
enum NetlinkAttribute {
  /// The value is attributes itself.
  private static let nested: UInt16 = 0x8000
  /// The value is a number in network order.
  private static let networkOrder: UInt16 = 0x4000

  static func bytes(_ type: UInt16, _ value: [UInt8]) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 4)
    bytes.put(UInt16(4 + value.count), at: 0)
    bytes.put(type, at: 2)
    return bytes + value + Array(repeating: 0, count: (4 - value.count % 4) % 4)
  }

  /// Text with its NUL.
  static func text(_ type: UInt16, _ value: [UInt8]) -> [UInt8] { bytes(type, value + [0]) }

  static func nest(_ type: UInt16, _ attributes: [UInt8]) -> [UInt8] { bytes(type | nested, attributes) }

  /// A number or an address that says of itself that it is in network order.
  static func networkOrder(_ type: UInt16, _ value: [UInt8]) -> [UInt8] { bytes(type | networkOrder, value) }

  /// Types and values in their order; nil when a length does not fit. The bits that say how a value is encoded are left
  /// out.
  static func list(_ bytes: [UInt8]) -> [(type: UInt16, value: [UInt8])]? {
    var attributes: [(UInt16, [UInt8])] = []
    var position = 0
    while bytes.count - position >= 4 {
      guard let length = bytes.number(UInt16.self, at: position).map(Int.init), length >= 4,
        let type = bytes.number(UInt16.self, at: position + 2), let value = bytes.slice(position + 4, length - 4)
      else { return nil }
      attributes.append((type & 0x3fff, value))
      position += (length + 3) & ~3
    }
    return attributes
  }

  /// Of a type that comes twice the last one counts, as in the kernel.
  static func byType(_ list: [(type: UInt16, value: [UInt8])]) -> [UInt16: [UInt8]] {
    Dictionary(list.map { ($0.type, $0.value) }) { _, last in last }
  }

  static func byType(_ bytes: [UInt8]) -> [UInt16: [UInt8]]? { list(bytes).map { byType($0) } }

  /// Text up to its NUL.
  static func text(_ value: [UInt8]) -> [UInt8] { Array(value.prefix { $0 != 0 }) }
}
