import Foundation
import Linux
import Logging
import Redirection
import TestSupport
import Testing
import ZDS

@testable import NodeAgent

/// An enroller among fakes, on its loop.
final class Scene {
  let journal = Journal()
  let redirection: FakeRedirection
  let probes = FakeProbes()
  let announcer: FakeAnnouncer
  let enroller: Enroller
  let loop: EventLoop
  let namespaces: NamedNamespaces

  init(_ loop: EventLoop, fences: Bool = true) throws {
    self.loop = loop
    namespaces = try NamedNamespaces()
    redirection = FakeRedirection(journal)
    announcer = FakeAnnouncer(journal)
    var timing = Enroller.Timing()
    timing.firstRetry = .milliseconds(10)
    timing.longestRetry = .milliseconds(40)
    timing.namespacePoll = .milliseconds(10)
    timing.identityPoll = .milliseconds(10)
    enroller = Enroller(
      defaults: RedirectionSettings(), redirector: redirection, announcer: announcer, probes: probes,
      opener: .ofThisNode(), fences: fences, threads: BlockingThreads(limit: 4), timing: timing,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, on: loop)
  }

  func want(_ names: String...) { enroller.want(names.map { workload($0, at: namespaces.path($0)) }) }

  func proof(_ name: String) -> EnrolmentProof? { enroller.proofs[uid(name)] }

  func proves(_ name: String, _ code: EnrolmentProof.Code) async -> Bool {
    await loop.waitUntil { self.proof(name)?.code == code }
  }

  func state(_ name: String) -> EnrolmentState? { enroller.states[uid(name)] }

  func code(_ name: String) -> String? {
    if case .failed(let error, _) = state(name) { error.code } else { nil }
  }

  func settles(_ name: String, _ state: EnrolmentState?) async -> Bool {
    await loop.waitUntil { self.state(name) == state }
  }

  /// Runs a scene. What it throws is the test's failure.
  static func play(fences: Bool = true, _ body: @escaping @Sendable (Scene) async throws -> Void) async throws {
    let failure = try await onLoop { loop -> String? in
      do {
        let scene = try Scene(loop, fences: fences)
        try await body(scene)
        _ = await scene.enroller.leaveAll(within: .seconds(5))
        return nil
      } catch { return "\(error)" }
    }
    if let failure { Issue.record("\(failure)") }
  }
}

@Suite("Enrolment", .requires(.root))
struct EnrollerTests {
  @Test("redirection is written before ztunnel is told, and removed after ztunnel has let go")
  func order() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.want("a")
      #expect(await scene.settles("a", .announced))
      #expect(scene.journal.all == ["write", "add a"])
      scene.journal.clear()
      scene.want()
      #expect(await scene.settles("a", nil))
      #expect(scene.journal.all == ["delete a", "unwrite"])
    }
  }

  @Test("a namespace that appears later is enrolled then, and ztunnel is told to keep it meanwhile")
  func appearsLater() async throws {
    try await Scene.play { scene in
      scene.want("a")
      #expect(await scene.settles("a", .waitingForNamespace))
      #expect(scene.announcer.kept == [uid("a")])
      try scene.namespaces.make("a")
      #expect(await scene.settles("a", .announced))
      #expect(scene.announcer.kept.isEmpty)
    }
  }

  @Test("a namespace that vanishes leaves ztunnel, and comes back")
  func vanishes() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.want("a")
      #expect(await scene.settles("a", .announced))
      scene.journal.clear()
      scene.namespaces.remove("a")
      scene.enroller.verifyAll()
      #expect(await scene.settles("a", .waitingForNamespace))
      #expect(scene.journal.all == ["delete a"])
      try scene.namespaces.make("a")
      #expect(await scene.settles("a", .announced))
      #expect(scene.journal.all == ["delete a", "write", "add a"])
    }
  }

  @Test("another namespace under the same name: the old one leaves ztunnel, the new one is enrolled")
  func replaced() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.want("a")
      #expect(await scene.settles("a", .announced))
      scene.journal.clear()
      let identity = try scene.namespaces.make("a")
      scene.enroller.verifyAll()
      #expect(await scene.loop.waitUntil { scene.journal.all.count == 3 })
      #expect(scene.journal.all == ["delete a", "write", "add a"])
      #expect(scene.redirection.state.withLock { $0.settings[identity] } != nil)
      #expect(await scene.settles("a", .announced))
    }
  }

  @Test("another namespace under the same name is noticed without anybody telling")
  func replacedInSilence() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.want("a")
      #expect(await scene.settles("a", .announced))
      let identity = try scene.namespaces.make("a")
      #expect(await scene.loop.waitUntil { scene.redirection.state.withLock { $0.settings[identity] } != nil })
      #expect(await scene.settles("a", .announced))
      scene.namespaces.remove("a")
      #expect(await scene.settles("a", .waitingForNamespace))
    }
  }

  @Test("a workload moved to another namespace by its file leaves the old one without rules")
  func moved() async throws {
    try await Scene.play { scene in
      let old = try scene.namespaces.make("a")
      try scene.namespaces.make("b")
      scene.enroller.want([workload("a", at: scene.namespaces.path("a"))])
      #expect(await scene.settles("a", .announced))
      scene.journal.clear()
      scene.enroller.want([workload("a", at: scene.namespaces.path("b"))])
      #expect(await scene.loop.waitUntil { scene.journal.all.count == 4 })
      #expect(scene.journal.all == ["unwrite", "delete a", "write", "add a"])
      #expect(scene.redirection.state.withLock { $0.settings[old] } == nil)
    }
  }

  @Test("rules that deviate are repaired, and ztunnel is not troubled")
  func drift() async throws {
    try await Scene.play { scene in
      let identity = try scene.namespaces.make("a")
      scene.want("a")
      #expect(await scene.settles("a", .announced))
      scene.journal.clear()
      scene.redirection.state.withLock { _ = $0.deviating.insert(identity) }
      scene.enroller.verifyAll()
      #expect(await scene.loop.waitUntil { scene.journal.all == ["write"] })
      scene.enroller.verifyAll()
      await scene.loop.sleep(for: .milliseconds(50))
      #expect(scene.journal.all == ["write"])
      #expect(scene.state("a") == .announced)
    }
  }

  @Test("what cannot be redirected is not announced, is named, and is tried again")
  func redirectionFails() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.redirection.state.withLock { _ = $0.refused.insert("apply") }
      scene.want("a")
      #expect(await scene.loop.waitUntil { scene.code("a") == "FAKE_REFUSAL" })
      #expect(scene.journal.all == [])
      #expect(scene.announcer.kept == [uid("a")])
      scene.redirection.state.withLock { $0.refused = [] }
      #expect(await scene.settles("a", .announced))
    }
  }

  @Test("without a ztunnel the rules are in place, and the workload is announced when one comes")
  func noZtunnel() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.announcer.failure = .notConnected
      scene.want("a")
      #expect(await scene.settles("a", .waitingForZtunnel))
      #expect(scene.journal.all == ["write"])
      scene.announcer.failure = nil
      scene.enroller.ztunnelCame()
      #expect(await scene.settles("a", .announced))
      #expect(scene.journal.all == ["write", "add a"])
    }
  }

  @Test("a refusal of ztunnel is named and tried again")
  func refused() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.announcer.failure = .refused("bind")
      scene.want("a")
      #expect(await scene.loop.waitUntil { scene.code("a") == "ZDS_REFUSED" })
      scene.announcer.failure = nil
      #expect(await scene.settles("a", .announced))
    }
  }

  @Test("a second workload in the same namespace is refused by name, until the first leaves")
  func claimed() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.namespaces.alias("b")
      scene.want("a")
      #expect(await scene.settles("a", .announced))
      scene.want("a", "b")
      #expect(await scene.loop.waitUntil { scene.code("b") == "ENROL_NAMESPACE_CLAIMED" })
      #expect(scene.state("a") == .announced)
      scene.want("b")
      #expect(await scene.settles("b", .announced))
    }
  }

  @Test("the node's own namespace is never enrolled")
  func hostNamespace() async throws {
    try await Scene.play { scene in
      scene.enroller.want([workload("host", at: "/proc/self/ns/net")])
      #expect(await scene.loop.waitUntil { scene.code("host") == "ENROL_HOST_NAMESPACE" })
      #expect(scene.journal.all == [])
    }
  }

  @Test("something that is no network namespace is refused by name")
  func wrongType() async throws {
    try await Scene.play { scene in
      scene.enroller.want([workload("a", at: "/proc/self/ns/mnt")])
      #expect(await scene.loop.waitUntil { scene.code("a") == "NETNS_WRONG_TYPE" })
    }
  }

  @Test("a namespace that is stuck delays nobody else")
  func independent() async throws {
    try await Scene.play { scene in
      let stuck = try scene.namespaces.make("a")
      try scene.namespaces.make("b")
      scene.redirection.state.withLock { _ = $0.stuck.insert(stuck) }
      scene.want("a", "b")
      #expect(await scene.settles("b", .announced))
      #expect(scene.state("a") == .redirecting)
      scene.redirection.state.withLock { $0.stuck = [] }
      #expect(await scene.settles("a", .announced))
    }
  }

  @Test("taking a workload out by `mesh: false` removes its rules, and putting it back writes them again")
  func meshFalse() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      let path = scene.namespaces.path("a")
      scene.enroller.want([workload("a", at: path)])
      #expect(await scene.settles("a", .announced))
      scene.enroller.want([workload("a", at: path, inMesh: false)])
      #expect(await scene.settles("a", .outside))
      scene.enroller.want([workload("a", at: path)])
      #expect(await scene.settles("a", .announced))
      #expect(scene.journal.all == ["write", "add a", "delete a", "unwrite", "write", "add a"])
    }
  }

  @Test("what an earlier run left in a namespace outside the mesh is removed")
  func leftovers() async throws {
    try await Scene.play { scene in
      let identity = try scene.namespaces.make("a")
      scene.redirection.state.withLock { $0.settings[identity] = RedirectionSettings() }
      scene.enroller.want([workload("a", at: scene.namespaces.path("a"), inMesh: false)])
      #expect(await scene.settles("a", .outside))
      #expect(scene.journal.all == ["unwrite", "delete a"])
    }
  }

  @Test("a restarted agent finds its rules in place and writes nothing")
  func restart() async throws {
    try await Scene.play { scene in
      let identity = try scene.namespaces.make("a")
      scene.redirection.state.withLock { $0.settings[identity] = RedirectionSettings() }
      scene.want("a")
      #expect(await scene.settles("a", .announced))
      #expect(scene.journal.all == ["add a"])
    }
  }

  @Test("rules that cannot be removed are tried again until they can")
  func removalFails() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.want("a")
      #expect(await scene.settles("a", .announced))
      scene.journal.clear()
      scene.redirection.state.withLock { $0.refused = ["remove"] }
      scene.want()
      #expect(await scene.loop.waitUntil { scene.code("a") == "FAKE_REFUSAL" })
      #expect(Set(scene.journal.all) == ["delete a"])
      scene.redirection.state.withLock { $0.refused = [] }
      #expect(await scene.settles("a", nil))
      #expect(scene.journal.all.last == "unwrite")
    }
  }

  @Test("changed annotations are written, and ztunnel is not troubled")
  func changedAnnotations() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      let path = scene.namespaces.path("a")
      scene.enroller.want([workload("a", at: path)])
      #expect(await scene.settles("a", .announced))
      scene.journal.clear()
      var annotations = CaptureAnnotations()
      annotations.bypassInboundCapture = true
      scene.enroller.want([workload("a", at: path, annotations: annotations)])
      #expect(await scene.loop.waitUntil { scene.journal.all == ["write"] })
    }
  }

  @Test("a changed service account is announced anew")
  func changedAccount() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      let path = scene.namespaces.path("a")
      scene.enroller.want([workload("a", at: path)])
      #expect(await scene.settles("a", .announced))
      scene.journal.clear()
      scene.enroller.want([workload("a", at: path, account: "other")])
      #expect(await scene.loop.waitUntil { scene.journal.all == ["add a"] })
    }
  }

  @Test("first attempts are over when each was tried, also those that failed, and in time in any case")
  func firstAttempts() async throws {
    try await Scene.play { scene in
      let stuck = try scene.namespaces.make("a")
      scene.redirection.state.withLock { _ = $0.stuck.insert(stuck) }
      scene.want("a", "missing")
      let start = ContinuousClock.now
      await scene.enroller.firstAttempts(within: .milliseconds(100))
      #expect(start.duration(to: .now) >= .milliseconds(100))
      scene.redirection.state.withLock { $0.stuck = [] }
      await scene.enroller.firstAttempts(within: .seconds(5))
      #expect(scene.state("a") == .announced)
      #expect(scene.state("missing") == .waitingForNamespace)
    }
  }
}
