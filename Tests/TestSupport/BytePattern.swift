import Glibc

/// An endless, position-dependent sequence of bytes. Comparing with it finds lost, doubled, swapped and changed bytes
/// at the speed of `memcmp`, which a checksum in an unoptimised build does not reach.
public enum BytePattern {
  /// Prime, so that no power-of-two buffer size lines up with it.
  private static let period = 65_521

  /// Two periods, so that a slice from any position is contiguous.
  private static let bytes: [UInt8] = {
    var state: UInt64 = 0x9e37_79b9_7f4a_7c15
    let once = (0..<period).map { _ -> UInt8 in
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return UInt8(truncatingIfNeeded: state >> 32)
    }
    return once + once
  }()

  /// Up to `count` bytes of the sequence from `position`: at least one, at most a period.
  public static func slice(at position: Int, count: Int) -> ArraySlice<UInt8> {
    let start = position % period
    return bytes[start..<start + min(count, period)]
  }

  /// Whether `candidate` is the sequence from `position`.
  public static func matches(_ candidate: some Collection<UInt8>, at position: Int) -> Bool {
    let candidate = Array(candidate)
    var checked = 0
    while checked < candidate.count {
      let expected = slice(at: position + checked, count: candidate.count - checked)
      let isEqual = candidate[checked...].withUnsafeBytes { left in
        expected.withUnsafeBytes { right in
          guard let left = left.baseAddress, let right = right.baseAddress else { return true }
          return memcmp(left, right, expected.count) == 0
        }
      }
      if !isEqual { return false }
      checked += expected.count
    }
    return true
  }
}
