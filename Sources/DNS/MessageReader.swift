/// Reads a DNS message from its beginning on. Every step checks its bounds and moves forward, so that reading a message
/// of n bytes takes at most a constant times n steps.
struct MessageReader {
  let bytes: [UInt8]
  private(set) var index: Int

  init(_ bytes: [UInt8], at index: Int = 0) {
    self.bytes = bytes
    self.index = index
  }

  mutating func byte() throws(DecodingError) -> UInt8 {
    guard index >= 0, index < bytes.count else { throw .truncated }
    defer { index += 1 }
    return bytes[index]
  }

  mutating func number() throws(DecodingError) -> UInt16 {
    let high = try byte()
    return UInt16(high) << 8 | UInt16(try byte())
  }

  mutating func longNumber() throws(DecodingError) -> UInt32 {
    let high = try number()
    return UInt32(high) << 16 | UInt32(try number())
  }

  mutating func take(_ count: Int) throws(DecodingError) -> ArraySlice<UInt8> {
    guard count >= 0, count <= bytes.count - index else { throw .truncated }
    defer { index += count }
    return bytes[index..<(index + count)]
  }

  /// A name, its compression undone. Each pointer must lead to before the part it is found in, so that there is an
  /// end to them.
  mutating func name() throws(DecodingError) -> DomainName {
    var wire: [UInt8] = []
    var part = index
    var position = index
    var end: Int?
    while true {
      guard position < bytes.count else { throw .truncated }
      let length = bytes[position]
      switch length >> 6 {
      case 0:
        let next = position + 1 + Int(length)
        guard next <= bytes.count else { throw .truncated }
        wire += bytes[position..<next]
        guard wire.count <= DomainName.longest else { throw .nameTooLong }
        position = next
        if length == 0 {
          index = end ?? position
          return DomainName(valid: wire)
        }
      case 3:
        guard position + 1 < bytes.count else { throw .truncated }
        let target = Int(length & 0x3f) << 8 | Int(bytes[position + 1])
        guard target >= MessageHeader.size, target < part else { throw .badPointer }
        if end == nil { end = position + 2 }
        (part, position) = (target, target)
      default: throw .unknownLabel
      }
    }
  }

  /// Moves past a name without following its pointers.
  mutating func skipName() throws(DecodingError) {
    while true {
      let length = try byte()
      switch length >> 6 {
      case 0:
        if length == 0 { return }
        _ = try take(Int(length))
      case 3:
        _ = try byte()
        return
      default: throw .unknownLabel
      }
    }
  }
}
