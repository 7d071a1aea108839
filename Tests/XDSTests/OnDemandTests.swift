import IstioAPI
import Mesh
import Testing
import Vocabulary

@testable import XDS

@Suite("Subscription on demand")
struct OnDemandTests {
  private static let start = ContinuousClock.now
  private var subscription = DeltaSubscription(node: NodeDescription(environment: [:]), mode: .onDemand)

  private func key(_ text: String) -> MeshKey { MeshKey(text) }

  private mutating func demand(_ keys: String..., after: Duration = .zero) -> [String] {
    subscription.demand([Demand(keys.map(MeshKey.init), for: "pod")], at: Self.start + after)
      .flatMap(\.resourceNamesSubscribe)
  }

  private func resource(_ name: String, _ bytes: [UInt8], aliases: [String], version: String = "1")
    -> Envoy_Service_Discovery_V3_Resource
  {
    var resource = XDSTests.resource(name, bytes, version: version)
    resource.aliases = aliases
    return resource
  }

  private func workload(_ uid: String, at address: [UInt8] = [10, 0, 0, 1], serving: String? = nil) throws -> [UInt8] {
    try XDSTests.workload(uid) {
      $0.addresses = [.init(address)]
      $0.node = "elsewhere"
      if let serving { $0.services = [serving: .init()] }
    }
  }

  @Test("a first stream says that it wants no addresses and all policies, and is ready with the policies")
  mutating func first() {
    let requests = subscription.opened()
    #expect(requests[0].resourceNamesSubscribe == ["*"] && requests[0].resourceNamesUnsubscribe == ["*"])
    #expect(requests[1].resourceNamesSubscribe.isEmpty && requests[1].resourceNamesUnsubscribe.isEmpty)
    #expect(subscription.receive(.received(response(.authorization))).contains(.ready))
  }

  @Test("a key is asked for once, however many wait for it")
  mutating func coalesces() {
    #expect(demand("/10.0.0.1", "ns/s.ns") == ["/10.0.0.1", "ns/s.ns"])
    #expect(demand("/10.0.0.1").isEmpty)
    #expect(demand("/10.0.0.1", "c//Pod/ns/w") == ["c//Pod/ns/w"])
  }

  @Test("an answer under another name settles the key that is among its aliases")
  mutating func aliases() throws {
    _ = demand("/10.0.0.1")
    let actions = subscription.receive(
      .received(response(.address, [resource("u", try workload("u"), aliases: ["/10.0.0.1"])])))
    #expect(actions.changes.last == .settle(key("/10.0.0.1")))
    #expect(demand("/10.0.0.1").isEmpty)
    #expect(subscription.receive(.opened).requests[0].initialResourceVersions == ["u": "1", "/10.0.0.1": ""])
  }

  @Test("without aliases, what is found under the key settles it")
  mutating func found() throws {
    _ = demand("/10.0.0.1", "/10.0.0.9")
    let actions = subscription.receive(.received(response(.address, [resource("u", try workload("u"), aliases: [])])))
    let mesh = MeshSnapshot(settings: .init(isOnDemand: true)).applying(actions.changes).snapshot
    #expect(subscription.settleFound(in: mesh) == [.settle(key("/10.0.0.1"))])
    #expect(subscription.settleFound(in: mesh).isEmpty, "once")
  }

  @Test("what there is not is settled too, and stays subscribed to")
  mutating func absent() {
    _ = demand("/10.0.0.1")
    let actions = subscription.receive(.received(response(.address, [], removed: ["/10.0.0.1"])))
    #expect(actions.changes == [.removeAddress(name: "/10.0.0.1"), .settle(key("/10.0.0.1"))])
    #expect(demand("/10.0.0.1").isEmpty)
    #expect(subscription.receive(.opened).requests[0].initialResourceVersions == ["/10.0.0.1": ""])
  }

  @Test("a pending key is asked for again on a new stream")
  mutating func reconnect() {
    _ = demand("ns/s.ns")
    let request = subscription.receive(.opened).requests[0]
    #expect(request.initialResourceVersions == ["ns/s.ns": ""])
    #expect(request.resourceNamesSubscribe == ["*"])
  }

  @Test("when a resource goes, the keys that it answered are given back and asked for anew")
  mutating func removed() throws {
    _ = demand("/10.0.0.1")
    _ = subscription.receive(
      .received(response(.address, [resource("u", try workload("u"), aliases: ["/10.0.0.1"])])))
    let actions = subscription.receive(.received(response(.address, [], removed: ["u"])))
    #expect(actions.changes == [.removeAddress(name: "u"), .unsettle(key("/10.0.0.1"))])
    #expect(actions.requests.first?.resourceNamesUnsubscribe == ["/10.0.0.1"])
    #expect(actions.requests.first?.responseNonce == "", "an answer names no resources")
    #expect(demand("/10.0.0.1") == ["/10.0.0.1"])
  }

  @Test("what nobody uses any more is given back with all that was there for it, and what is used stays")
  mutating func releases() throws {
    _ = demand("ns/s.ns", "/10.0.0.2")
    let actions = subscription.receive(
      .received(
        response(
          .address,
          [
            resource("ns/s.ns", try service(), aliases: []),
            resource("end", try workload("end", serving: "ns/s.ns"), aliases: []),
            resource("other", try workload("other", at: [10, 0, 0, 2]), aliases: ["/10.0.0.2"]),
          ])))
    var mesh = MeshSnapshot(settings: .init(localNode: "here", isOnDemand: true)).applying(actions.changes).snapshot
    let later = DemandedKeys.idleLimit
    _ = demand("/10.0.0.2", after: later / 2)
    #expect(subscription.release(from: mesh, at: Self.start + later / 2).isEmpty)
    let released = subscription.release(from: mesh, at: Self.start + later)
    #expect(released.requests.first?.resourceNamesUnsubscribe == ["end", "ns/s.ns"])
    mesh = mesh.applying(released.changes).snapshot
    #expect(mesh.serviceCount == 0 && mesh.allWorkloads.map(\.uid) == ["other"])
    #expect(mesh.isSettled(key("/10.0.0.2")) && !mesh.isSettled(key("ns/s.ns")))
    #expect(subscription.count(of: .address) == 1)
    #expect(demand("ns/s.ns", after: later) == ["ns/s.ns"])
  }

  @Test("a bounded number of keys is held: those used longest ago go first")
  func bounded() {
    var demanded = DemandedKeys()
    for number in 0..<DemandedKeys.mostKeys + 10 {
      _ = demanded.use([.workload(uid: "\(number)")], by: nil, at: Self.start + .milliseconds(number))
    }
    _ = demanded.use([.workload(uid: "0")], by: nil, at: Self.start + .seconds(100))
    #expect(demanded.isFull)
    let released = Set(demanded.release(at: Self.start + .seconds(100)))
    #expect(!demanded.isFull && released.count >= 10)
    #expect(released.count < DemandedKeys.mostKeys / 4)
    #expect(!released.contains(.workload(uid: "0")) && released.contains(.workload(uid: "1")))
  }

  /// Uses, and has answered, so many keys of its own.
  private func scan(_ demanded: inout DemandedKeys, _ count: Int, by pod: String) {
    for number in 0..<count {
      let key = MeshKey.workload(uid: "\(pod)-\(number)")
      _ = demanded.use([key], by: pod, at: Self.start + .seconds(1) + .milliseconds(number))
      _ = demanded.answer(key, with: nil)
    }
  }

  @Test("a pod that tries many addresses pushes out its own keys, and not those of others that are older")
  func scanner() {
    var demanded = DemandedKeys()
    let (mine, shared) = (key("/10.0.0.1"), key("/10.0.0.2"))
    _ = demanded.use([mine, shared], by: "quiet", at: Self.start)
    for round in 1...3 {
      scan(&demanded, DemandedKeys.mostKeysOfPod + 1, by: "scanner\(round)")
      #expect(demanded.isFull, "more than its share")
      let released = Set(demanded.release(at: Self.start + .seconds(100)))
      #expect(!released.isEmpty && !released.contains(mine) && !released.contains(shared))
      #expect(!demanded.isFull)
    }
    // Several of them together, each within its share.
    for pod in ["a", "b", "c", "d", "e"] { scan(&demanded, DemandedKeys.mostKeysOfPod, by: pod) }
    #expect(demanded.isFull)
    let released = Set(demanded.release(at: Self.start + .seconds(100)))
    #expect(!demanded.isFull && !released.contains(mine))
  }

  @Test("a key that a second pod uses is no longer the first one's alone")
  func common() {
    var demanded = DemandedKeys()
    let shared = key("/10.0.0.2")
    _ = demanded.use([shared], by: "scanner", at: Self.start)
    #expect(demanded.use([shared], by: "quiet", at: Self.start).isEmpty, "it is asked for once")
    scan(&demanded, DemandedKeys.mostKeysOfPod + 1, by: "scanner")
    #expect(!demanded.release(at: Self.start + .seconds(100)).contains(shared))
  }

  @Test("a pod has so many unanswered keys at once; what is left out is asked for when it is used again")
  func pendingOfPod() {
    var demanded = DemandedKeys()
    let keys = (0...DemandedKeys.mostPendingOfPod).map { MeshKey.workload(uid: "\($0)") }
    #expect(demanded.use(keys, by: "pod", at: Self.start) == Array(keys.dropLast()))
    #expect(demanded.use([key("/10.0.0.1")], by: "other", at: Self.start).count == 1, "others are not held up")
    #expect(demanded.use(keys.suffix(1), by: "pod", at: Self.start).isEmpty)
    _ = demanded.answer(keys[0], with: nil)
    #expect(demanded.use(keys.suffix(1), by: "pod", at: Self.start) == keys.suffix(1))
  }

  @Test(
    "keys are read as they are written",
    arguments: [
      ("/10.0.0.1", MeshKey.address(.init(network: "", ip: .v4(0x0a00_0001)))),
      ("net/::1", .address(.init(network: "net", ip: .v6(0, 1)))),
      ("ns/s.ns", .service(.init(namespace: "ns", hostname: "s.ns"))),
      ("c//Pod/ns/w", .workload(uid: "c//Pod/ns/w")), ("u", .workload(uid: "u")),
    ])
  func keys(_ text: String, _ key: MeshKey) {
    #expect(MeshKey(text) == key && key.description == text)
  }
}
