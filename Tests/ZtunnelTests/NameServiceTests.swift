import Glibc
import Linux
import Synchronization
import TestSupport
import Testing
import Vocabulary

@testable import Ztunnel

/// A resolver that answers when the test says so.
private final class HeldResolver: HostnameResolver {
  private struct State {
    var asked: [String] = []
    var completions: [@Sendable (Resolution) -> Void] = []
  }

  private let state = Mutex(State())

  func lookUp(_ hostname: String, _ completion: @escaping @Sendable (Resolution) -> Void) {
    state.withLock {
      $0.asked.append(hostname)
      $0.completions.append(completion)
    }
  }

  var asked: [String] { state.withLock { $0.asked } }

  func answer(_ resolution: Resolution) {
    let completions = state.withLock { state in
      defer { state.completions = [] }
      return state.completions
    }
    for completion in completions { completion(resolution) }
  }
}

@Suite("Names of workloads")
struct NameServiceTests {
  private let address = IPAddress.v4(0x0a000001)

  private func onLoop<Value: Sendable>(_ body: @escaping @Sendable (EventLoop) async -> Value) async throws -> Value {
    let loop = try EventLoop(name: "test")
    try loop.start()
    defer {
      loop.stop()
      loop.join()
    }
    return await withCheckedContinuation { continuation in
      loop.spawn { continuation.resume(returning: await body(loop)) }
    }
  }

  private func look(
    up name: String, _ names: NameService, _ loop: EventLoop, within limit: Duration = .seconds(5)
  ) async -> Resolution {
    do throws(ResolutionError) { return .success(try await names.addresses(of: name, on: loop, within: limit)) } catch {
      return .failure(error)
    }
  }

  @Test("are asked for once, however many connections wait, whatever their case, and then remembered")
  func coalesced() async throws {
    let resolver = HeldResolver()
    let names = NameService(resolver)
    let expected = Resolution.success([address])
    try await onLoop { loop in
      var results: [Resolution] = []
      for name in ["db.example", "DB.example", "db.example"] {
        // Patient: the answer's thread may have to wait for other tests that block theirs.
        loop.spawn { results.append(await look(up: name, names, loop, within: .seconds(60))) }
      }
      await loop.sleep(for: .milliseconds(20))
      #expect(resolver.asked == ["db.example"])
      // From another thread, as lookups are.
      await Task.detached { resolver.answer(expected) }.value
      while results.count < 3 { await loop.sleep(for: .milliseconds(1)) }
      #expect(results == [expected, expected, expected])
      #expect(await look(up: "db.example", names, loop) == expected)
      #expect(resolver.asked.count == 1)
    }
  }

  @Test("that get no answer fail at the deadline; a late answer still serves the next connection")
  func deadline() async throws {
    let resolver = HeldResolver()
    let names = NameService(resolver)
    let expected = Resolution.success([address])
    try await onLoop { loop in
      let begin = ContinuousClock.now
      #expect(
        await look(up: "slow.example", names, loop, within: .milliseconds(50)) == .failure(.timeout(seconds: 0)))
      #expect(.now - begin < .seconds(2))
      resolver.answer(expected)
      #expect(await look(up: "slow.example", names, loop) == expected)
      #expect(resolver.asked.count == 1)
    }
  }

  @Test("that do not exist are not asked for again at once")
  func negative() async throws {
    let resolver = HeldResolver()
    let names = NameService(resolver)
    try await onLoop { loop in
      loop.spawn { _ = await look(up: "none.example", names, loop) }
      await loop.sleep(for: .milliseconds(10))
      resolver.answer(.failure(.notFound))
      #expect(await look(up: "none.example", names, loop) == .failure(.notFound))
      #expect(resolver.asked.count == 1)
    }
  }

  @Test("are found by the system, off the loop's thread")
  func system() async throws {
    let names = NameService(SystemResolver(ipv6Enabled: true))
    let found = try await onLoop { loop in await look(up: "localhost", names, loop) }
    #expect(try found.get().allSatisfy(\.isLoopback))
    let literal = try await onLoop { loop in await look(up: "192.0.2.7", names, loop) }
    #expect(literal == .success([.v4(0xc000_0207)]))
  }

  @Test("of one family only, where IPv6 is switched off")
  func family() {
    let found = SystemResolver.addresses(of: "localhost", AF_INET)
    #expect(found == .success([.loopback(.v4)]))
    #expect(SystemResolver.addresses(of: "fd00::1", AF_INET) == .failure(.notFound))
  }

  @Test("are chosen in the client's family at random, in the other when there is none")
  func choice() {
    var random = FastRandom()
    let six = IPAddress.v6(0xfd00_0000_0000_0000, 1)
    let others = [IPAddress.v4(1), .v4(2), six]
    func first(of addresses: [IPAddress], _ family: IPAddress.Family) -> IPAddress? {
      var choice = AddressChoice()
      return choice.pick(from: addresses, family, using: &random)
    }
    #expect(Set((0..<200).map { _ in first(of: others, .v4) }) == [.v4(1), .v4(2)])
    #expect(first(of: others, .v6) == six)
    #expect(first(of: [.v4(1)], .v6) == .v4(1))
    #expect(first(of: [], .v6) == nil)
  }

  @Test("are tried one address after the other, the client's family first, while there are others")
  func otherAddresses() {
    var random = FastRandom()
    let six = IPAddress.v6(0xfd00_0000_0000_0000, 1)
    let addresses = [six, .v4(1), .v4(2)]
    var choice = AddressChoice()
    let first = choice.pick(from: addresses, .v4, using: &random)
    #expect(choice.hasOther)
    let second = choice.pick(from: addresses, .v4, using: &random)
    #expect(Set([first, second]) == [.v4(1), .v4(2)] && choice.hasOther)
    #expect(choice.pick(from: addresses, .v4, using: &random) == six)
    #expect(!choice.hasOther)
    #expect(choice.pick(from: addresses, .v4, using: &random)?.family == .v4, "when all failed, any")
  }

  @Test("wait for a bounded number of threads, and are refused when too many wait")
  func threads() {
    struct Seen: Equatable { var running = 0, finished = 0, refused = 0 }
    let seen = Mutex(Seen())
    let isOpen = Mutex(false)
    let threads = BlockingThreads(limit: 2, mostWaiting: 3)
    for index in 1...2 {
      threads.submit {
        seen.withLock { $0.running += 1 }
        _ = eventually(within: .seconds(10)) { isOpen.withLock { $0 } }
        seen.withLock { $0.finished += 1 }
      } orRefuse: {
        seen.withLock { $0.refused += 1 }
      }
      #expect(eventually(within: .seconds(5)) { seen.withLock { $0.running } == index })
    }
    for _ in 0..<5 {
      threads.submit {
        seen.withLock { $0.finished += 1 }
      } orRefuse: {
        seen.withLock { $0.refused += 1 }
      }
    }
    #expect(seen.withLock { $0 } == Seen(running: 2, finished: 0, refused: 2))
    isOpen.withLock { $0 = true }
    #expect(eventually(within: .seconds(5)) { seen.withLock { $0.finished } == 5 })
  }
}
