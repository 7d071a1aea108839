/// Reading and writing numbers at offsets of a byte array. Reading is bounds-checked: the bytes come from the kernel.
extension Array where Element == UInt8 {
  /// The number at `offset` in host byte order, nil when it does not lie wholly inside.
  func number<Number: FixedWidthInteger>(_ type: Number.Type, at offset: Int) -> Number? {
    guard let bytes = slice(offset, MemoryLayout<Number>.size) else { return nil }
    return bytes.withUnsafeBytes { $0.loadUnaligned(as: Number.self) }
  }

  /// `count` bytes from `offset`, nil when they do not lie wholly inside.
  func slice(_ offset: Int, _ count: Int) -> [UInt8]? {
    guard offset >= 0, count >= 0, offset <= self.count, count <= self.count - offset else { return nil }
    return Array(self[offset..<offset + count])
  }

  /// The bytes from `offset` up to a NUL, at most `capacity` of them; nil when `capacity` bytes are not there.
  func terminated(at offset: Int, capacity: Int) -> [UInt8]? {
    slice(offset, capacity).map { Array($0.prefix { $0 != 0 }) }
  }

  /// Overwrites bytes of an array of our own making.
  mutating func put(_ bytes: [UInt8], at offset: Int) {
    precondition(offset >= 0 && offset + bytes.count <= count, "an entry is made large enough before it is filled")
    for (index, byte) in bytes.enumerated() { self[offset + index] = byte }
  }

  /// Overwrites a number, in host byte order, in an array of our own making.
  mutating func put(_ number: some FixedWidthInteger, at offset: Int) {
    put(Swift.withUnsafeBytes(of: number) { Array($0) }, at: offset)
  }
}
