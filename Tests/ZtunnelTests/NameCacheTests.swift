import Testing
import Vocabulary

@testable import Ztunnel

@Suite("The memory of host names")
struct NameCacheTests {
  private let start = ContinuousClock.now
  private let addresses: [IPAddress] = [.v4(0x0a000001), .v4(0x0a000002)]

  @Test("knows nothing at first, then an answer for half a minute")
  func fresh() {
    var cache = NameCache()
    #expect(cache.answer(for: "a", at: start) == .mustAsk)
    #expect(cache.store(.success(addresses), for: "a", at: start) == .success(addresses))
    #expect(cache.answer(for: "a", at: start + .seconds(29)) == .known(addresses))
    #expect(cache.answer(for: "b", at: start) == .mustAsk)
    #expect(cache.answer(for: "a", at: start + .seconds(30)) == .mustAsk)
  }

  @Test("remembers a failure for two seconds only")
  func failure() {
    var cache = NameCache()
    #expect(cache.store(.failure(.notFound), for: "a", at: start) == .failure(.notFound))
    #expect(cache.answer(for: "a", at: start + .seconds(1)) == .failed(.notFound))
    #expect(cache.answer(for: "a", at: start + .seconds(2)) == .mustAsk)
  }

  @Test("keeps old addresses for minutes while name servers fail, and no longer")
  func stale() {
    var cache = NameCache()
    _ = cache.store(.success(addresses), for: "a", at: start)
    let later = start + .seconds(60)
    #expect(cache.store(.failure(.failed("no server")), for: "a", at: later) == .success(addresses))
    #expect(cache.answer(for: "a", at: later + .seconds(1)) == .known(addresses))
    #expect(cache.answer(for: "a", at: later + .seconds(2)) == .mustAsk)
    let tooLate = start + .seconds(331)
    #expect(cache.store(.failure(.failed("no server")), for: "a", at: tooLate) == .failure(.failed("no server")))
  }

  @Test("gives up addresses of a name that exists no more")
  func removed() {
    var cache = NameCache()
    _ = cache.store(.success(addresses), for: "a", at: start)
    #expect(cache.store(.failure(.notFound), for: "a", at: start + .seconds(31)) == .failure(.notFound))
    #expect(cache.answer(for: "a", at: start + .seconds(32)) == .failed(.notFound))
  }

  @Test("holds no more names than it may: useless ones go first, then the oldest")
  func bound() {
    var cache = NameCache(capacity: 3)
    for (index, name) in ["a", "b", "c", "d"].enumerated() {
      _ = cache.store(.success(addresses), for: name, at: start + .seconds(index))
    }
    #expect(cache.count == 3)
    #expect(cache.answer(for: "a", at: start + .seconds(4)) == .mustAsk)
    #expect(cache.answer(for: "b", at: start + .seconds(4)) == .known(addresses))
    _ = cache.store(.failure(.notFound), for: "c", at: start + .seconds(5))
    _ = cache.store(.success(addresses), for: "e", at: start + .seconds(10))
    #expect(cache.answer(for: "b", at: start + .seconds(10)) == .known(addresses))
    #expect(cache.answer(for: "e", at: start + .seconds(10)) == .known(addresses))
    #expect(cache.count == 3)
  }
}
