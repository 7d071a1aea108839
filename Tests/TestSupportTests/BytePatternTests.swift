import TestSupport
import Testing

@Suite("The byte pattern")
struct BytePatternTests {
  private func bytes(from position: Int, _ count: Int) -> [UInt8] {
    (0..<count).flatMap { BytePattern.slice(at: position + $0, count: 1) }
  }

  @Test(
    "is the same in slices of any size, also across its period", arguments: [0, 1, 65_400, 65_520, 65_521, 1_000_000])
  func slices(position: Int) {
    #expect(BytePattern.matches(bytes(from: position, 300), at: position))
    #expect(BytePattern.matches(BytePattern.slice(at: position, count: 300), at: position))
  }

  @Test("finds a changed, a lost and a doubled byte")
  func damage() {
    let whole = bytes(from: 0, 300)
    var changed = whole
    changed[200] ^= 1
    #expect(!BytePattern.matches(changed, at: 0))
    #expect(!BytePattern.matches(whole[..<100] + whole[101...], at: 0))
    #expect(!BytePattern.matches(whole[...100] + whole[100...], at: 0))
    #expect(!BytePattern.matches(whole, at: 1))
  }

  @Test("never gives more than asked for, nor nothing")
  func sizes() {
    #expect(BytePattern.slice(at: 65_520, count: 10).count == 10)
    #expect(BytePattern.slice(at: 0, count: 1_000_000).count == 65_521)
  }
}
