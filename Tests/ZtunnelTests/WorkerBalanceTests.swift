import Testing

@testable import Ztunnel

@Suite("Which worker serves a connection") struct WorkerBalanceTests {
  @Test(
    "the one that accepted it, unless another has less to do by more than an eighth",
    arguments: [
      (0, [0, 0], nil), (0, [1, 0], 1), (1, [0, 1], 0), (0, [1, 1], nil), (0, [3, 1, 2], 1),
      (0, [36, 32], nil), (0, [37, 32], 1), (2, [5, 4, 3], nil),
    ] as [(Int, [Int], Int?)])
  func choice(own: Int, loads: [Int], expected: Int?) {
    #expect(WorkerBalance.choice(own: own, loads: loads) == expected)
  }

  @Test("one that is stuck gets nothing, and one alone has no choice")
  func nobodyElse() {
    #expect(WorkerBalance.choice(own: 0, loads: [9, Int.max]) == nil)
    #expect(WorkerBalance.choice(own: 0, loads: [9]) == nil)
    #expect(WorkerBalance.choice(own: 0, loads: []) == nil)
  }

  @Test("a connection on its way is claimed once")
  func claimed() {
    let handover = ConnectionHandover()
    #expect(handover.claim())
    #expect(!handover.claim())
  }
}
