import Linux
import Redirection
import Telemetry
import TestSupport
import Testing
import Vocabulary
import ZDS

@testable import NodeAgent

@Suite("Proving enrolment", .requires(.root))
struct EnrolmentProofTests {
  @Test("a new workload is fenced before anything is written, and until it is proven")
  func fencedFirst() async throws {
    try await Scene.play { scene in
      scene.redirection.state.withLock { $0.notesFences = true }
      try scene.namespaces.make("a")
      scene.want("a")
      #expect(await scene.proves("a", .proven))
      #expect(scene.journal.all == ["fence", "write", "unfence", "add a"])
    }
  }

  @Test("what is proven already is not fenced when the agent starts")
  func restart() async throws {
    try await Scene.play { scene in
      let identity = try scene.namespaces.make("a")
      scene.redirection.state.withLock {
        $0.notesFences = true
        $0.settings[identity] = RedirectionSettings()
      }
      scene.want("a")
      #expect(await scene.proves("a", .proven))
      #expect(scene.journal.all == ["add a"])
    }
  }

  @Test("a fence that an earlier run left is taken down when the rules are proven")
  func leftFence() async throws {
    try await Scene.play { scene in
      let identity = try scene.namespaces.make("a")
      scene.redirection.state.withLock {
        $0.notesFences = true
        $0.settings[identity] = RedirectionSettings()
        $0.fenced = [identity]
      }
      scene.want("a")
      #expect(await scene.proves("a", .proven))
      #expect(scene.journal.all == ["unfence", "add a"])
    }
  }

  @Test(
    "what cannot be written, or not even looked at, stays fenced, says why, and is freed when it can",
    arguments: ["apply", "prove"])
  func staysFenced(refused: String) async throws {
    try await Scene.play { scene in
      let identity = try scene.namespaces.make("a")
      scene.redirection.state.withLock { $0.refused = [refused] }
      scene.want("a")
      #expect(await scene.loop.waitUntil { scene.code("a") == "FAKE_REFUSAL" })
      #expect(scene.proof("a")?.code == .fenced)
      #expect(scene.proof("a")?.deviations.isEmpty == false)
      #expect(scene.proof("a")?.lastProven == nil)
      #expect(scene.redirection.state.withLock { $0.fenced } == [identity])
      scene.redirection.state.withLock { $0.refused = [] }
      #expect(await scene.proves("a", .proven))
      #expect(scene.redirection.state.withLock { $0.fenced } == [])
    }
  }

  @Test("rules that somebody changed are repaired behind a fence, and ztunnel is not troubled")
  func drift() async throws {
    try await Scene.play { scene in
      scene.redirection.state.withLock { $0.notesFences = true }
      let identity = try scene.namespaces.make("a")
      scene.want("a")
      #expect(await scene.proves("a", .proven))
      scene.journal.clear()
      scene.redirection.state.withLock { _ = $0.deviating.insert(identity) }
      scene.enroller.verifyAll()
      #expect(await scene.loop.waitUntil { scene.journal.all.count == 3 })
      #expect(scene.journal.all == ["fence", "write", "unfence"])
      #expect(await scene.proves("a", .proven))
    }
  }

  @Test("a fence that cannot be raised is said, and does not keep the rules from being written")
  func exposed() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.redirection.state.withLock { $0.refused = ["fence", "apply"] }
      scene.want("a")
      #expect(await scene.proves("a", .exposed))
      scene.redirection.state.withLock { $0.refused = ["fence"] }
      #expect(await scene.proves("a", .proven))
    }
  }

  @Test("without fences nothing is ever cut off, and what is not proven is called exposed")
  func noFences() async throws {
    try await Scene.play(fences: false) { scene in
      scene.redirection.state.withLock {
        $0.notesFences = true
        $0.refused = ["apply"]
      }
      try scene.namespaces.make("a")
      scene.want("a")
      #expect(await scene.proves("a", .exposed))
      scene.redirection.state.withLock { $0.refused = [] }
      #expect(await scene.proves("a", .proven))
      #expect(scene.journal.all == ["write", "add a"])
    }
  }

  @Test("without a ztunnel a workload is pending and not fenced: its rules refuse its connections already")
  func pending() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.announcer.failure = .notConnected
      scene.want("a")
      #expect(await scene.settles("a", .waitingForZtunnel))
      #expect(scene.proof("a")?.code == .pending)
      #expect(scene.redirection.state.withLock { $0.fenced } == [])
      scene.announcer.failure = nil
      scene.enroller.ztunnelCame()
      #expect(await scene.proves("a", .proven))
    }
  }

  @Test("a ztunnel that no longer listens makes the workload pending, until one does")
  func listenersGo() async throws {
    try await Scene.play { scene in
      let identity = try scene.namespaces.make("a")
      scene.want("a")
      #expect(await scene.proves("a", .proven))
      let proven = scene.proof("a")?.lastProven
      scene.redirection.state.withLock { _ = $0.unserved.insert(identity) }
      scene.enroller.verifyAll()
      #expect(await scene.proves("a", .pending))
      #expect(scene.proof("a")?.missingListeners == [15001, 15006, 15008])
      #expect(await scene.settles("a", .waitingForZtunnel))
      #expect(scene.redirection.state.withLock { $0.fenced } == [])
      scene.redirection.state.withLock { $0.unserved = [] }
      scene.enroller.ztunnelCame()
      #expect(await scene.proves("a", .proven))
      #expect(scene.proof("a")?.missingListeners == [])
      #expect((scene.proof("a")?.lastProven?.microseconds ?? 0) > (proven?.microseconds ?? .max))
    }
  }

  @Test("ztunnel's word is not enough: a workload nobody listens for is not announced, nor exempt from anything")
  func wordAlone() async throws {
    try await Scene.play { scene in
      let identity = try scene.namespaces.make("a")
      scene.redirection.state.withLock { _ = $0.unserved.insert(identity) }
      scene.want("a")
      #expect(await scene.settles("a", .waitingForZtunnel))
      #expect(scene.journal.all == ["write", "add a"])
      #expect(scene.enroller.trouble(of: uid("a")) == .notListening([15001, 15006, 15008]))
      #expect(scene.proof("a")?.code == .pending)
      scene.redirection.state.withLock { $0.unserved = [] }
      #expect(await scene.settles("a", .announced))
    }
  }

  @Test("a workload without a certificate is served, pending and not fenced, and proven when the certificate comes")
  func identity() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.announcer.identities[uid("a")] = false
      scene.want("a")
      #expect(await scene.settles("a", .announced))
      #expect(scene.proof("a")?.code == .pending)
      #expect(scene.proof("a")?.hasIdentity == false)
      #expect(scene.redirection.state.withLock { $0.fenced } == [])
      scene.announcer.identities[uid("a")] = true
      #expect(await scene.proves("a", .proven))
      // It expired, and is not renewed.
      scene.announcer.identities[uid("a")] = false
      scene.enroller.verifyAll()
      #expect(await scene.proves("a", .pending))
      // A ztunnel that does not tell.
      scene.announcer.identities[uid("a")] = nil
      #expect(await scene.proves("a", .proven))
      #expect(scene.proof("a")?.hasIdentity == nil)
    }
  }

  @Test("a workload that waits, is outside, or leaves, has no fence and says what it is")
  func otherStates() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("out")
      scene.enroller.want([
        workload("a", at: scene.namespaces.path("a")), workload("out", at: scene.namespaces.path("out"), inMesh: false),
      ])
      #expect(await scene.proves("a", .waiting))
      #expect(await scene.proves("out", .outside))
      #expect(scene.redirection.state.withLock { $0.fenced } == [])
      scene.want()
      #expect(await scene.loop.waitUntil { scene.enroller.proofs.all.isEmpty })
    }
  }

  @Test("packets that escaped or were stopped are counted on, over rules written anew and workloads that are gone")
  func escapes() async throws {
    try await Scene.play { scene in
      let identity = try scene.namespaces.make("a")
      scene.redirection.state.withLock {
        $0.escaped = 5
        $0.stopped = 50
      }
      scene.want("a")
      #expect(await scene.proves("a", .proven))
      #expect(scene.proof("a")?.escapedPackets == 5)
      #expect(scene.proof("a")?.stoppedPackets == 50)
      scene.redirection.state.withLock {
        $0.escaped = 2
        $0.stopped = 20
        $0.deviating.insert(identity)
      }
      scene.enroller.verifyAll()
      #expect(await scene.loop.waitUntil { scene.proof("a")?.escapedPackets == 7 })
      scene.want()
      #expect(await scene.loop.waitUntil { scene.enroller.proofs.all.isEmpty })
      #expect(scene.enroller.proofs.escapedPackets == 7)
      #expect(scene.enroller.proofs.stoppedPackets == 70)
    }
  }

  @Test("the node's probes reach a workload when ztunnel serves it, and no longer when it leaves")
  func probes() async throws {
    try await Scene.play { scene in
      try scene.namespaces.make("a")
      scene.announcer.failure = .notConnected
      scene.probes.isBroken.withLock { $0 = true }
      scene.want("a")
      #expect(await scene.settles("a", .waitingForZtunnel))
      scene.announcer.failure = nil
      scene.enroller.ztunnelCame()
      #expect(await scene.loop.waitUntil { scene.code("a") == "FAKE_REFUSAL" }, "a failure is named and tried again")
      #expect(scene.proof("a")?.code == .proven)
      scene.probes.isBroken.withLock { $0 = false }
      #expect(await scene.settles("a", .announced))
    }
  }
}

@Suite("A record of proofs")
struct ProofRecordTests {
  private static let served = NamespaceProof()
  private static let deaf = NamespaceProof(listeners: [15001])
  private static let unknown = NamespaceProof(listeners: nil)

  @Test(
    "has one word for what was found",
    arguments: [
      (.noNamespace, .waiting), (.unproven(["x"], isFenced: true), .fenced), (.unproven([], isFenced: false), .exposed),
      (.captured(served, isAcknowledged: true), .proven), (.captured(served, isAcknowledged: false), .pending),
      (.captured(deaf, isAcknowledged: true), .pending), (.captured(unknown, isAcknowledged: true), .proven),
      (.leaving, .leaving), (.outside, .outside),
    ] as [(EnrolmentProof.Record.Finding, EnrolmentProof.Code)])
  func codes(finding: EnrolmentProof.Record.Finding, code: EnrolmentProof.Code) {
    var record = EnrolmentProof.Record(since: LogTimestamp(microseconds: 1))
    record.take(finding, at: LogTimestamp(microseconds: 2))
    #expect(record.code == code)
    #expect(record.since.microseconds == (code == .waiting ? 1 : 2))
  }

  @Test("keeps since when, and when it was last proven")
  func times() {
    var record = EnrolmentProof.Record(since: LogTimestamp(microseconds: 1))
    for moment in [2, 3] as [Int64] {
      record.take(.captured(Self.served, isAcknowledged: true), at: LogTimestamp(microseconds: moment))
    }
    #expect(record.since.microseconds == 2)
    #expect(record.lastProven?.microseconds == 3)
    record.take(.unproven(["gone"], isFenced: true), at: LogTimestamp(microseconds: 4))
    #expect(record.deviations == ["gone"])
    #expect(record.lastProven?.microseconds == 3)
  }

  @Test(
    "counts escapes on when the counter starts anew",
    arguments: [
      ([], nil), ([0], 0), ([3, 3, 5], 5), ([3, 0], 3), ([3, 1, 2, 0, 4], 9),
    ] as [([UInt64], UInt64?)])
  func escapes(readings: [UInt64], total: UInt64?) {
    var count = EscapeCount()
    count.observe(nil)
    for reading in readings { count.observe(reading) }
    #expect(count.total == total)
  }
}
