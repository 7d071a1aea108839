/// The fields of a protobuf message, one after the other, without making anything of them (protobuf's encoding
/// specification).
///
/// A response of the control plane can be 200 MiB; this reads it where it lies, a resource at a time.
struct MessageFields {
  enum Content: Equatable {
    /// A string, bytes or a message: where it lies.
    case bytes(Range<Int>)
    /// A number, passed over.
    case number
  }

  struct Malformed: Error {}

  private let bytes: [UInt8]
  private var position: Int
  private let end: Int

  init(_ bytes: [UInt8]) { self.init(bytes, bytes.indices) }

  /// `range` must lie within `bytes`.
  init(_ bytes: [UInt8], _ range: Range<Int>) {
    self.bytes = bytes
    position = range.lowerBound
    end = range.upperBound
  }

  /// The next field's number and content; nil at the end. Throws where the bytes are no message.
  mutating func next() throws(Malformed) -> (number: UInt64, content: Content)? {
    guard position < end else { return nil }
    let tag = try varint()
    guard tag >> 3 != 0 else { throw Malformed() }
    switch tag & 7 {
    case 0: _ = try varint()
    case 1: _ = try skip(8)
    case 2: return (tag >> 3, .bytes(try skip(try varint())))
    case 5: _ = try skip(4)
    // Groups are not used by any message of discovery.
    default: throw Malformed()
    }
    return (tag >> 3, .number)
  }

  private mutating func skip(_ count: UInt64) throws(Malformed) -> Range<Int> {
    guard count <= UInt64(end - position) else { throw Malformed() }
    let start = position
    position += Int(count)
    return start..<position
  }

  private mutating func varint() throws(Malformed) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), through: 63, by: 7) {
      guard position < end else { throw Malformed() }
      let byte = bytes[position]
      position += 1
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
    }
    throw Malformed()
  }
}

extension [UInt8] {
  /// The text in a range; nil where it is not UTF-8.
  func text(_ range: Range<Int>) -> String? { String(validating: self[range], as: UTF8.self) }
}
