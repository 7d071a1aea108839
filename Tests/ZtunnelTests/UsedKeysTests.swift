import Mesh
import Testing

@testable import Ztunnel

@Suite("Used keys")
struct UsedKeysTests {
  private let keys = ["/10.0.0.1", "ns/s.ns"].map(MeshKey.init)

  @Test("each is said once in a period")
  func once() {
    var used = UsedKeys()
    let start = ContinuousClock.now
    #expect(used.news(keys, by: "a", at: start) == keys)
    #expect(used.news(keys, by: "b", at: start) == keys, "each pod uses for itself")
    #expect(used.news(keys, by: "a", at: start + UsedKeys.period / 2).isEmpty)
    #expect(used.news(keys, by: "a", at: start + UsedKeys.period + .seconds(1)) == keys)
  }

  @Test("a bounded number is remembered")
  func bounded() {
    var used = UsedKeys()
    let start = ContinuousClock.now
    for number in 0..<UsedKeys.mostKeys { _ = used.news([.workload(uid: "\(number)")], by: "a", at: start) }
    #expect(used.news([.workload(uid: "0")], by: "a", at: start) == [.workload(uid: "0")], "it has begun anew")
  }
}
