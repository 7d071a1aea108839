import Glibc
import Synchronization
import Testing

@testable import Linux

/// How many run at once.
private final class Gauge: Sendable {
  let running = Atomic<Int>(0)
  let most = Atomic<Int>(0)
}

@Suite("Threads for work that blocks")
struct BlockingThreadsTests {
  @Test("every job runs, and no more at once than there may be threads")
  func bounded() async throws {
    let threads = BlockingThreads(limit: 3)
    let gauge = Gauge()
    let sum = try await withThrowingTaskGroup(of: Int.self) { group in
      for number in 0..<50 {
        group.addTask {
          try await threads.run {
            gauge.most.max(gauge.running.add(1, ordering: .relaxed).newValue, ordering: .relaxed)
            usleep(2000)
            gauge.running.subtract(1, ordering: .relaxed)
            return number
          }
        }
      }
      return try await group.reduce(0, +)
    }
    #expect(sum == 49 * 50 / 2)
    #expect(gauge.most.load(ordering: .relaxed) <= 3)
  }

  @Test("one job that blocks does not hold up another")
  func independent() async throws {
    let threads = BlockingThreads(limit: 2)
    let gauge = Gauge()
    async let slow: Bool = threads.run {
      for _ in 0..<5000 where gauge.running.load(ordering: .relaxed) == 0 { usleep(1000) }
      return gauge.running.load(ordering: .relaxed) > 0
    }
    try await threads.run { _ = gauge.running.add(1, ordering: .relaxed) }
    let wasReleased = try await slow
    #expect(wasReleased)
  }

  @Test("what a job throws reaches who asked")
  func failure() async {
    await #expect(throws: SystemError("x", 1)) { try await BlockingThreads(limit: 1).run { throw SystemError("x", 1) } }
  }
}
