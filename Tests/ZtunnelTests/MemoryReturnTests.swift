import Testing

@testable import Ztunnel

@Suite("Memory that a burst leaves")
struct MemoryReturnTests {
  @Test(
    "is given back when the connections have become half as many, and many have gone",
    arguments: [
      ([0, 10, 0], [false, false, false]),
      ([200, 600, 400, 301], [false, false, false, false]),
      ([200, 600, 300, 300, 200, 100], [false, false, true, false, false, true]),
      ([128, 0, 0, 127, 0, 128, 0], [false, true, false, false, false, false, true]),
      ([10_000, 9000, 4000, 2001, 2000, 10_000, 0], [false, false, true, false, true, false, true]),
    ])
  func over(counts: [Int], expected: [Bool]) {
    var burst = MemoryReturn.Burst()
    #expect(counts.map { burst.isOver(connections: $0) } == expected)
  }
}
