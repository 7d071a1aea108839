import Glibc
import Testing

@testable import Linux

/// A loop that ends with the test.
func withLoop<Result: Sendable>(_ body: (EventLoop) async throws -> Result) async throws -> Result {
  let loop = try EventLoop(name: "test")
  try loop.start()
  defer {
    loop.stop()
    loop.join()
  }
  return try await body(loop)
}

extension EventLoop {
  /// Runs `body` as a task of the loop and gives its value to a test.
  func run<Result: Sendable>(_ body: @escaping @Sendable () async -> Result) async -> Result {
    await withCheckedContinuation { continuation in
      spawn { continuation.resume(returning: await body()) }
    }
  }
}

/// A connected pair of non-blocking stream sockets.
func socketPair() -> (CInt, CInt) {
  var pair: [CInt] = [0, 0]
  precondition(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0, &pair) == 0)
  return (pair[0], pair[1])
}

@Suite("Event loop")
struct EventLoopTests {
  @Test("a spawned task runs on the loop's thread before and after every suspension")
  func tasksStay() async throws {
    try await withLoop { loop in
      let stayed = await loop.run {
        var all = loop.isCurrent
        await loop.sleep(for: .milliseconds(1))
        all = all && loop.isCurrent
        await Task.yield()
        return all && loop.isCurrent
      }
      #expect(stayed)
    }
  }

  @Test("jobs from many threads are all run")
  func manyProducers() async throws {
    try await withLoop { loop in
      let total = await withTaskGroup(of: Int.self) { group in
        for _ in 0..<2000 {
          group.addTask { await loop.run { loop.isCurrent ? 1 : 0 } }
        }
        return await group.reduce(0, +)
      }
      #expect(total == 2000)
    }
  }

  @Test("a loop that has run all its jobs rests, whenever their wakeups come")
  func restsAfterProducers() async throws {
    try await withLoop { loop in
      for _ in 0..<20 {
        await withTaskGroup(of: Void.self) { group in
          for _ in 0..<4 {
            group.addTask { for _ in 0..<500 { loop.spawn {} } }
          }
        }
        _ = await loop.run { true }
        try await Task.sleep(for: .milliseconds(5))
        let before = loop.rounds
        try await Task.sleep(for: .milliseconds(5))
        #expect(loop.rounds - before < 10)
      }
    }
  }

  @Test("timers cancelled by others of their round leave the queue's count of cancelled ones right")
  func cancelledInRound() {
    let queue = TimerQueue()
    let now = ContinuousClock.now
    var fired = 0
    for _ in 0..<300 {
      var others: [LoopTimer] = []
      _ = queue.add(at: now - .seconds(1)) { for other in others { other.cancel() } }
      others = (0..<100).map { _ in queue.add(at: now) { fired += 1 } }
      queue.fire(upTo: now)
    }
    #expect(fired == 0)
    let late = (0..<200).map { _ in queue.add(at: now + .seconds(60)) {} }
    for timer in late { timer.cancel() }
    #expect(queue.count < 100, "cancelled timers are dropped before their time")
  }

  @Test("a readable wait ends with data, and with a deadline when none comes")
  func readable() async throws {
    try await withLoop { loop in
      let (near, far) = socketPair()
      defer {
        close(near)
        close(far)
      }
      let late = await loop.run { () -> WaitError? in
        do throws(WaitError) { try await loop.readable(near, until: .now + .milliseconds(20)) } catch { return error }
        return nil
      }
      #expect(late == .deadlineExceeded)
      _ = write(far, "x", 1)
      let early = await loop.run { () -> WaitError? in
        do throws(WaitError) { try await loop.readable(near, until: .now + .seconds(5)) } catch { return error }
        return nil
      }
      #expect(early == nil)
    }
  }

  @Test("an edge watch reports once for each change")
  func edge() async throws {
    try await withLoop { loop in
      let (near, far) = socketPair()
      defer {
        close(near)
        close(far)
      }
      let seen = await loop.run { () -> Int in
        var count = 0
        guard let watch = try? loop.watch(near, for: .readable, mode: .edge, { _ in count += 1 }) else { return -1 }
        _ = write(far, "x", 1)
        await loop.sleep(for: .milliseconds(20))
        _ = write(far, "y", 1)
        await loop.sleep(for: .milliseconds(20))
        watch.cancel()
        _ = write(far, "z", 1)
        await loop.sleep(for: .milliseconds(20))
        return count
      }
      #expect(seen == 2)
    }
  }

  @Test("a watch cancelled by an earlier event of the same round is silent")
  func cancelledInBatch() async throws {
    try await withLoop { loop in
      let (a, farA) = socketPair()
      let (b, farB) = socketPair()
      defer { for raw in [a, b, farA, farB] { close(raw) } }
      let calls = await loop.run { () -> Int in
        var watches: [Watch] = []
        var calls = 0
        for raw in [a, b] {
          if let watch = try? loop.watch(
            raw, for: .readable,
            { _ in
              calls += 1
              for watch in watches { watch.cancel() }
            })
          {
            watches.append(watch)
          }
        }
        _ = write(farA, "x", 1)
        _ = write(farB, "x", 1)
        await loop.sleep(for: .milliseconds(20))
        return calls
      }
      #expect(calls == 1)
    }
  }

  @Test("timers fire in order of deadline and cancelled ones do not")
  func timers() async throws {
    try await withLoop { loop in
      let order = await loop.run { () -> [Int] in
        var order: [Int] = []
        for (index, delay) in [30, 10, 20].enumerated() {
          _ = loop.schedule(after: .milliseconds(delay)) { order.append(index) }
        }
        let cancelled = loop.schedule(after: .milliseconds(5)) { order.append(99) }
        cancelled.cancel()
        await loop.sleep(for: .milliseconds(60))
        return order
      }
      #expect(order == [1, 2, 0])
    }
  }
}

@Suite("Shares of a loop")
struct LoopShareTests {
  @Test("work in a share keeps nobody else waiting for longer than its turn")
  func interrupted() async throws {
    try await withLoop { loop in
      let steps = await loop.run { () -> Int in
        let flood = LoopShare(of: loop)
        let (near, far) = socketPair()
        defer {
          close(near)
          close(far)
        }
        var steps = 0
        var seen = -1
        let watch = try? loop.watch(near, for: .readable, mode: .edge) { _ in seen = steps }
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
          loop.within(flood) {
            for _ in 0..<200 {
              loop.afterEvents {
                steps += 1
                usleep(1000)
                if steps == 1 { _ = write(far, "x", 1) }
                if steps == 200 { continuation.resume() }
              }
            }
          }
        }
        watch?.cancel()
        return seen
      }
      #expect((1...3).contains(steps), "the other share's event came after \(steps) of 200 steps")
    }
  }

  @Test("what a share starts is its own: watches, timers, tasks and what these put off")
  func inherited() async throws {
    try await withLoop { loop in
      let places = await loop.run { () -> [Bool] in
        let share = LoopShare(of: loop)
        let (near, far) = socketPair()
        defer {
          close(near)
          close(far)
        }
        var places: [Bool] = []
        var watch: Watch?
        loop.within(share) {
          places.append(loop.isTurn(of: share))
          watch = try? loop.watch(near, for: .readable, mode: .edge) { _ in
            places.append(loop.isTurn(of: share))
            loop.afterEvents { places.append(loop.isTurn(of: share)) }
          }
          _ = loop.schedule(after: .milliseconds(1)) {
            places.append(loop.isTurn(of: share))
            loop.spawn {
              await loop.sleep(for: .milliseconds(1))
              places.append(loop.isTurn(of: share))
              _ = write(far, "x", 1)
            }
          }
        }
        places.append(!loop.isTurn(of: share))
        for _ in 0..<1000 where places.count < 6 { await loop.sleep(for: .milliseconds(1)) }
        watch?.cancel()
        return places
      }
      #expect(places == Array(repeating: true, count: 6))
    }
  }

  @Test("all jobs of many shares are run, from whichever thread they come")
  func manyShares() async throws {
    try await withLoop { loop in
      let total = await withTaskGroup(of: Int.self) { group in
        for _ in 0..<50 {
          let share = LoopShare(of: loop)
          for _ in 0..<20 {
            group.addTask {
              await withCheckedContinuation { continuation in
                loop.spawn(in: share) {
                  await loop.letOthersRun()
                  continuation.resume(returning: loop.isTurn(of: share) ? 1 : 0)
                }
              }
            }
          }
        }
        return await group.reduce(0, +)
      }
      #expect(total == 1000)
    }
  }
}

@Suite("Timer queue")
struct TimerQueueTests {
  @Test("cancelling most of many timers keeps the rest in order")
  func compaction() {
    let queue = TimerQueue()
    let start = ContinuousClock.now
    var fired: [Int] = []
    var timers: [LoopTimer] = []
    for index in 0..<1000 {
      let delay = (index * 7919) % 1000
      timers.append(queue.add(at: start + .milliseconds(delay)) { fired.append(delay) })
    }
    for (index, timer) in timers.enumerated() where index % 10 != 0 { timer.cancel() }
    queue.fire(upTo: start + .seconds(2))
    #expect(fired.count == 100)
    #expect(fired == fired.sorted())
    #expect(queue.nextDeadline == nil)
  }

  @Test("a timer cancelled by another that is due at the same time does not fire")
  func cancelWhileDue() {
    let queue = TimerQueue()
    let start = ContinuousClock.now
    var second: LoopTimer?
    var fired = 0
    _ = queue.add(at: start) { second?.cancel() }
    second = queue.add(at: start + .milliseconds(1)) { fired += 1 }
    queue.fire(upTo: start + .seconds(1))
    #expect(fired == 0)
    #expect(queue.nextDeadline == nil)
  }
}
