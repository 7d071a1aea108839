import Foundation
import GRPC
import IstioAPI
import Mesh
import Testing
import Vocabulary

@testable import XDS

@Suite("Delta subscription")
struct DeltaSubscriptionTests {
  private func subscription() -> DeltaSubscription {
    DeltaSubscription(
      node: NodeDescription(environment: [
        "POD_NAME": "zt", "POD_NAMESPACE": "istio-system", "INSTANCE_IP": "10.0.0.1", "NODE_NAME": "a",
      ]))
  }

  @Test("a first stream subscribes to everything of both types, addresses first, and says who asks")
  func first() {
    var subscription = subscription()
    let requests = subscription.receive(.opened).requests
    #expect(requests.map(\.typeURL) == ResourceType.allCases.map(\.rawValue))
    for request in requests {
      #expect(request.node.id == "ztunnel~10.0.0.1~zt.istio-system~istio-system.svc.cluster.local")
      #expect(request.resourceNamesSubscribe.isEmpty && request.resourceNamesUnsubscribe.isEmpty)
      #expect(request.initialResourceVersions.isEmpty && request.responseNonce.isEmpty)
    }
  }

  @Test("a response is applied and then acknowledged by its nonce, without node or names")
  func acknowledged() throws {
    var subscription = subscription()
    let actions = subscription.receive(
      .received(response(.address, [resource("u", try workload("u"))], removed: ["old"], nonce: "7")))
    #expect(actions.requests.count == 1)
    #expect(actions.changes == [.upsertWorkload(try record("u")), .removeAddress(name: "old")])
    let answer = try #require(actions.requests.first)
    #expect(actions.last == .send(answer), "an answer says that the changes are made")
    #expect(answer.responseNonce == "7" && answer.typeURL == ResourceType.address.rawValue)
    #expect(!answer.hasErrorDetail && !answer.hasNode && answer.resourceNamesSubscribe.isEmpty)
  }

  @Test("a bad resource is refused by name with its reason, and the good ones beside it are taken")
  func refused() throws {
    var subscription = subscription()
    let bad = try workload("bad") { $0.addresses = [.init([1, 2, 3])] }
    let actions = subscription.receive(
      .received(response(.address, [resource("bad", bad), resource("u", try workload("u"))])))
    #expect(actions.changes == [.upsertWorkload(try record("u"))])
    #expect(actions.reports == ["bad"])
    let detail = try #require(actions.requests.first).errorDetail
    #expect(detail.message == "bad: addresses: an address has 4 or 16 bytes, not 3")
    #expect(detail.code == 3)
  }

  @Test("what is understood is retained before it is acknowledged, and makes the same mesh after a restart")
  func restart() throws {
    let node = NodeDescription(environment: [:])
    var subscription = DeltaSubscription(node: node, retains: true)
    _ = subscription.receive(.opened)
    let bad = try workload("bad") { $0.addresses = [.init([1, 2, 3])] }
    let responses = [
      response(.address, [resource("u", try workload("u"), version: "5"), resource("bad", bad)], removed: ["old"]),
      response(.authorization, [resource("ns/unclear", try workload("u"))]),
    ]
    var retained: [RetainedPortion] = []
    var changes: [MeshChange] = []
    for response in responses {
      let actions = subscription.receive(.received(response))
      let kept = try #require(
        actions.lastIndex { if case .retain = $0 { true } else { false } })
      let sent = try #require(actions.firstIndex { if case .send = $0 { true } else { false } })
      #expect(kept < sent)
      retained += actions.retained
      changes += actions.changes
    }
    #expect(retained.map { $0.entries.map(\.name) } == [["u"], ["old"], ["ns/unclear"]])
    #expect(retained.map { $0.entries.map { $0.resource == nil } } == [[false], [true], [false]])
    #expect(changes.contains { if case .upsertPolicy = $0 { true } else { false } }, "something stands in for it")

    var restarted = DeltaSubscription(node: node, retains: true)
    let empty = MeshSnapshot(settings: MeshSettings())
    var update = MeshUpdate(of: empty)
    for portion in retained { try restarted.restore(portion.encoded, into: &update) }
    #expect(update.delta == empty.applying(changes).delta)
    #expect(update.snapshot.workloadCount == 1 && update.snapshot.policyCount == 1)
    #expect(!restarted.isReady, "only the control plane itself can say so")
    let requests = restarted.receive(.opened).requests
    #expect(requests.map(\.initialResourceVersions) == [["u": "5"], ["ns/unclear": ""]])
  }

  @Test("of a name that comes several times in one response, a restart keeps the last word too")
  func repeated() throws {
    let node = NodeDescription(environment: [:])
    var reporting = Istio_Security_Authorization()
    reporting.dryRun = true
    let (unclear, clear) = (try workload("u"), try policy("p"))
    let dryRun: [UInt8] = try reporting.serializedBytes()
    let empty = MeshSnapshot(settings: MeshSettings())
    for contents in [[unclear, dryRun, clear], [unclear, dryRun], [unclear, dryRun, unclear]] {
      for portion in 1...3 {
        var subscription = DeltaSubscription(node: node, retains: true)
        let actions = subscription.receive(
          .received(response(.authorization, contents.map { resource("ns/p", $0) })), portion: portion)
        var restarted = DeltaSubscription(node: node, retains: true)
        var update = MeshUpdate(of: empty)
        for portion in actions.retained { try restarted.restore(portion.encoded, into: &update) }
        #expect(empty.applying(actions.changes).snapshot.policyCount == update.snapshot.policyCount)
      }
    }
  }

  @Test("what was retained and is no response is refused")
  func malformed() throws {
    var subscription = DeltaSubscription(node: NodeDescription(environment: [:]), retains: true)
    var update = MeshUpdate(of: MeshSnapshot(settings: MeshSettings()))
    // A group, which discovery has none of.
    let foreign: [UInt8] = [0x7b, 0x7c]
    #expect(throws: ResourceRejection.undecodable) { try subscription.restore(foreign, into: &update) }
    #expect(RetainedPortion(encoded: foreign) == nil)
  }

  @Test("what is retained is written as a response, and read again as it was")
  func encoded() throws {
    let long = [UInt8](repeating: 0, count: 70_000)
    let whole: [UInt8] = try Envoy_Service_Discovery_V3_Resource.with {
      $0.name = "a"
      $0.version = "1"
      $0.aliases = ["b"]
      $0.resource.value = Data(long)
    }.serializedBytes()
    let portion = RetainedPortion(
      typeURL: "some type",
      entries: [.init(name: "a", resource: nil), .init(name: "gone", resource: nil), .init(name: "a", resource: whole)])
    let read = try #require(RetainedPortion(encoded: portion.encoded))
    #expect(read.typeURL == "some type")
    #expect(read.entries == Array(portion.entries.dropFirst()), "each name once, with its last word")
    #expect(try Response(serializedBytes: portion.encoded).resources.first?.aliases == ["b"])
    #expect(RetainedPortion(encoded: portion.encoded.dropLast()) == nil)
  }

  @Test("a hundred reasons are told at once, and how many more there are")
  func manyRefused() throws {
    var subscription = subscription()
    let bad = (0..<150).map { resource("bad-\($0)", [0xff]) }
    let actions = subscription.receive(.received(response(.address, bad)), portion: 40)
    let message = try #require(actions.requests.first).errorDetail.message
    #expect(message.hasPrefix("bad-0: ") && message.hasSuffix("; and 50 more") && !message.contains("bad-100:"))
    #expect(actions.reports.count == 150, "each is logged")
  }

  @Test("a reconnect names what is held with its version, and not what was refused or removed")
  func reconnect() throws {
    var subscription = subscription()
    _ = subscription.receive(
      .received(
        response(
          .address,
          [
            resource("u", try workload("u"), version: "a"), resource("v", try workload("v"), version: "b"),
            resource("bad", [0xff], version: "c"),
          ])))
    _ = subscription.receive(.received(response(.address, [resource("u", [0xff], version: "z")], removed: ["v"])))
    let requests = subscription.receive(.opened).requests
    #expect(requests.first?.initialResourceVersions == ["u": "a"], "a refused update leaves the version before it")
    #expect(requests.last?.initialResourceVersions == [:])
  }

  /// Names that take some 100 bytes each.
  private func names(_ count: Int) -> [String] {
    (0..<count).map { "uid-\($0)-" + String(repeating: "x", count: 90) }
  }

  private func learn(_ names: [String], _ subscription: inout DeltaSubscription) throws {
    _ = subscription.receive(
      .received(response(.address, try names.map { resource($0, try workload($0)) })), portion: 64)
    _ = subscription.receive(.received(response(.authorization, [resource("ns/p", try policy("p"))])))
  }

  @Test("more than fits into a request is not named: what a whole new response does not hold is then gone")
  func tooManyNames() throws {
    var subscription = subscription()
    let names = names(40_000)
    try learn(names, &subscription)
    let requests = subscription.receive(.opened).requests
    #expect(requests[0].initialResourceVersions.isEmpty)
    #expect(requests[1].initialResourceVersions == ["ns/p": "1"], "each type by itself")
    let kept = Array(names.dropLast(3))
    var resources = try kept.dropFirst().map { resource($0, try workload($0)) }
    resources.append(resource(kept[0], [0xff]))
    let actions = subscription.receive(.received(response(.address, resources)), portion: 64)
    let removed = actions.changes.compactMap { if case .removeAddress(let name) = $0 { name } else { nil } }
    #expect(removed.sorted() == names.suffix(3).sorted(), "one that is refused is there all the same")
    #expect(subscription.count(of: .address) == kept.count)
    // The next response is about changes again.
    _ = subscription.receive(.received(response(.address, [resource("new", try workload("new"))])))
    #expect(subscription.count(of: .address) == kept.count + 1)
  }

  @Test("a refusal for the size makes the next request name less, and one that names nothing is refused for good")
  func refusedForSize() throws {
    var subscription = subscription()
    let names = names(1000)
    try learn(names, &subscription)
    #expect(subscription.receive(.opened).requests[0].initialResourceVersions.count == 1000)
    let refused = subscription.refusedForSize()
    #expect(refused)
    #expect(subscription.receive(.opened).requests[0].initialResourceVersions.isEmpty)
    let refusedAgain = subscription.refusedForSize()
    #expect(!refusedAgain, "there is nothing to leave out")
    _ = subscription.receive(.received(response(.address, [], removed: [])))
    #expect(subscription.count(of: .address) == 0, "it was told everything, and that is nothing")
    try learn(Array(names.prefix(10)), &subscription)
    #expect(subscription.receive(.opened).requests[0].initialResourceVersions.count == 10, "few names are named")
    let small = subscription.refusedForSize()
    #expect(!small, "so little is refused for another reason")
  }

  @Test("a stream that ends before the whole new response came forgets nothing")
  func interrupted() throws {
    var subscription = subscription()
    let names = names(1000)
    try learn(names, &subscription)
    _ = subscription.receive(.opened)
    _ = subscription.refusedForSize()
    _ = subscription.receive(.opened)
    #expect(subscription.count(of: .address) == 1000)
    _ = subscription.receive(.opened)
    let actions = subscription.receive(
      .received(response(.address, try names.map { resource($0, try workload($0)) })), portion: 64)
    #expect(subscription.count(of: .address) == 1000)
    #expect(!actions.changes.contains { if case .removeAddress = $0 { true } else { false } })
  }

  @Test("ready when each type was processed once, be it with refusals")
  func ready() throws {
    var subscription = subscription()
    #expect(!subscription.receive(.received(response(.address, [resource("bad", [0xff])]))).contains(.ready))
    #expect(subscription.receive(.received(response(.authorization))).contains(.ready))
    #expect(!subscription.receive(.received(response(.authorization))).contains(.ready), "once")
  }

  @Test("a type that nobody asked for is refused")
  func unknownType() {
    var subscription = subscription()
    var response = Response()
    response.typeURL = "type.googleapis.com/other"
    response.nonce = "9"
    let actions = subscription.receive(.received(response))
    #expect(actions.first == .reportUnknownType("type.googleapis.com/other"))
    #expect(actions.requests.first?.hasErrorDetail == true)
    #expect(actions.requests.first?.responseNonce == "9")
  }

  @Test("a resource without content is refused")
  func empty() {
    var subscription = subscription()
    var nothing = Envoy_Service_Discovery_V3_Resource()
    nothing.name = "u"
    let actions = subscription.receive(.received(response(.address, [nothing])))
    #expect(actions.requests.first?.errorDetail.message == "u: the resource cannot be decoded")
  }

  @Test("a name both updated and removed ends removed")
  func updatedAndRemoved() throws {
    var subscription = subscription()
    let actions = subscription.receive(
      .received(response(.address, [resource("u", try workload("u"))], removed: ["u"])))
    #expect(actions.changes.last == .removeAddress(name: "u"))
    #expect(subscription.count(of: .address) == 0)
  }

  // MARK: Policies that are not understood

  private func denies(_ policy: AuthorizationPolicy, in snapshot: MeshSnapshot) throws -> Bool {
    var record = Workload.Record(uid: "u")
    record.namespace = "ns"
    let applied = snapshot.applying([.upsertPolicy(policy)]).snapshot
    let connection = ConnectionAttributes(
      sourceIP: .loopback(.v4), destination: SocketAddress(.loopback(.v4), 80))
    return !applied.evaluate(connection, destination: Workload(record)).isAllowed
  }

  @Test("a new policy that cannot be understood denies, until a good one or its removal comes")
  func newPolicyDenies() throws {
    var subscription = subscription()
    let bad = try policy("p") {
      $0.scope = .namespace
      $0.action = .deny
      $0.rules = [.with { $0.clauses = [.with { $0.matches = [.with { $0.sourceIps = [.init()] }] }] }]
    }
    var actions = subscription.receive(.received(response(.authorization, [resource("ns/p", bad)])))
    guard case .upsertPolicy(let standIn) = actions.changes.first else {
      Issue.record("nothing stands in for the policy")
      return
    }
    #expect(standIn.key == "ns/p")
    #expect(try denies(standIn, in: MeshSnapshot()))
    #expect(actions.requests.first?.hasErrorDetail == true)
    #expect(subscription.receive(.opened).requests.last?.initialResourceVersions == ["ns/p": ""])
    actions = subscription.receive(.received(response(.authorization, [], removed: ["ns/p"])))
    #expect(actions.changes == [.removePolicy(key: "ns/p")])
  }

  @Test("an update of a policy that cannot be understood leaves the good one in force")
  func lastGoodPolicy() throws {
    var subscription = subscription()
    _ = subscription.receive(.received(response(.authorization, [resource("ns/p", try policy("p"))])))
    let actions = subscription.receive(.received(response(.authorization, [resource("ns/p", [0xff])])))
    #expect(actions.changes.isEmpty)
    #expect(actions.reports == ["ns/p"])
  }

  @Test("what stands in for a policy follows it, and a good version ends that")
  func standInFollows() throws {
    var subscription = subscription()
    func receive(_ bytes: [UInt8]) -> [MeshChange] {
      subscription.receive(.received(response(.authorization, [resource("ns/p", bytes)]))).changes
    }
    func bad(_ change: (inout Istio_Security_Authorization) -> Void) throws -> [UInt8] {
      try policy("p") {
        $0.rules = [.with { $0.clauses = [.with { $0.matches = [.with { $0.extensions = [.init()] }] }] }]
        change(&$0)
      }
    }
    func action(_ changes: [MeshChange]) -> AuthorizationPolicy.Action? {
      if case .upsertPolicy(let policy) = changes.first { policy.action } else { nil }
    }
    #expect(action(receive(try bad { _ in })) == .allow)
    #expect(action(receive(try bad { $0.action = .deny })) == .deny)
    #expect(receive(try bad { $0.dryRun = true }) == [.removePolicy(key: "ns/p")])
    #expect(subscription.count(of: .authorization) == 0)
    #expect(action(receive(try bad { $0.action = .deny })) == .deny)
    #expect(receive(try policy("p")).count == 1)
    #expect(receive(try bad { $0.action = .deny }).isEmpty, "now there is a good one")
  }

  @Test("bytes that are no policy at all close the namespace that they are named for")
  func garbagePolicy() throws {
    let standIn = try #require(PolicyStandIn.policy(name: "ns/p", bytes: [0xff]))
    #expect(standIn.scope == .namespace)
    #expect(try denies(standIn, in: MeshSnapshot()))
  }

  @Test("an ALLOW policy that is not understood allows nobody by itself")
  func allowPolicy() throws {
    let bytes = try policy("p") {
      $0.scope = .global
      $0.rules = [.with { $0.clauses = [.with { $0.matches = [.with { $0.destinationPorts = [70000] }] }] }]
    }
    let standIn = try #require(PolicyStandIn.policy(name: "ns/p", bytes: bytes))
    #expect(standIn.action == .allow && standIn.scope == .global)
    #expect(try denies(standIn, in: MeshSnapshot()))
  }

  @Test("a policy that only reports denies nothing when it is not understood")
  func dryRunPolicy() throws {
    let bytes = try policy("p") {
      $0.dryRun = true
      $0.scope = .UNRECOGNIZED(9)
    }
    #expect(PolicyStandIn.policy(name: "ns/p", bytes: bytes) == nil)
  }

  private func record(_ uid: String) throws -> Workload.Record {
    var record = Workload.Record(uid: uid)
    record.name = "w"
    record.namespace = "ns"
    return record
  }
}
