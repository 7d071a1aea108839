import Kubernetes
import Linux
import TestSupport
import Testing
import ZDS

@testable import NodeAgent

@Suite("Pods of a node, with their API server", .requires(.root))
struct KubernetesSourceTests {
  @Test("a pod of the mesh starts captured, and says so")
  func admitted() async throws {
    try await ClusterScene.play { play in
      try await play.startWithCapturedPod()
      #expect(
        await play.scene.loop.waitUntil {
          play.cluster.pods["web"]?.annotations == [
            "ambient.istio.io/redirection": "enabled", "node-agent.ambient/proof": "PROVEN",
          ]
        })
    }
  }

  @Test("a pod is captured when its namespace was labelled just now, however late the watch is")
  func stalledWatch() async throws {
    try await ClusterScene.play { play in
      play.cluster.namespaces["shop"] = [:]
      try await play.startWithPod()
      #expect(await play.admit("web", uid: "u1") == .success(.notInMesh(reason: notSelected)))
      // The watch says nothing of it.
      play.cluster.namespaces["shop"] = ["istio.io/dataplane-mode": "ambient"]
      #expect(await play.admit("web", uid: "u1") == .success(.captured))
    }
  }

  @Test("a pod is captured when it was labelled itself just now")
  func stalledPodWatch() async throws {
    try await ClusterScene.play { play in
      play.cluster.namespaces["shop"] = [:]
      try await play.startWithPod()
      play.cluster.pods["web"]?.labels = ["istio.io/dataplane-mode": "ambient"]
      #expect(await play.admit("web", uid: "u1") == .success(.captured))
    }
  }

  @Test("without the API server nobody says that a pod is not of the mesh, unless the operator lets the watch say it")
  func cannotAsk() async throws {
    for trustsWatch in [false, true] {
      try await ClusterScene.play(trustsWatch: trustsWatch) { play in
        play.cluster.namespaces["shop"] = [:]
        play.cluster.pods["web"] = .init(uid: "u1")
        await play.startAndRead()
        play.cluster.isAway = true
        let answer = await play.admit("web", uid: "u1")
        if trustsWatch {
          #expect(answer == .success(.notInMesh(reason: notSelected)))
        } else {
          let code: String? = if case .failure(let error) = answer { error.code } else { nil }
          #expect(code == "ADMISSION_LOOKUP_FAILED")
        }
      }
    }
  }

  @Test("a pod that the watch has not shown stays in the mesh while the API server is away, and as long as it knows it")
  func unconfirmed() async throws {
    try await ClusterScene.play { play in
      try play.scene.namespaces.make("web")
      await play.startAndRead()
      play.cluster.areWatchesStalled = true
      play.cluster.pods["web"] = .init(uid: "u1")
      #expect(await play.admit("web", uid: "u1") == .success(.captured))
      let before = play.cluster.server.requests.count
      #expect(await play.scene.loop.waitUntil { play.cluster.server.requests.count >= before + 2 }, "it is asked for")
      #expect(play.scene.enroller.state(of: uid("u1")) == .announced)
      play.cluster.isAway = true
      await play.scene.loop.sleep(for: .milliseconds(300))
      #expect(play.scene.enroller.state(of: uid("u1")) == .announced)
      // Another pod has the name when the server is back, and still the watch is silent.
      play.cluster.pods["web"] = .init(uid: "u2")
      play.cluster.namespaces["shop"] = [:]
      play.cluster.isAway = false
      #expect(await play.scene.loop.waitUntil { play.scene.enroller.state(of: uid("u1")) == nil })
    }
  }

  @Test("a namespace that is deleted ahead of its pods leaves them in the mesh")
  func namespaceGoesFirst() async throws {
    try await ClusterScene.play { play in
      try await play.startWithCapturedPod()
      play.scene.journal.clear()
      play.cluster.tellNamespace("DELETED", "shop")
      #expect(await play.scene.loop.waitUntil { play.source.view.namespace("shop") == nil })
      await play.scene.loop.sleep(for: .milliseconds(100))
      #expect(play.scene.enroller.state(of: uid("u1")) == .announced)
      #expect(play.scene.journal.all == [])
      play.cluster.tell("DELETED", "web")
      #expect(await play.scene.loop.waitUntil { play.scene.enroller.state(of: uid("u1")) == nil })
    }
  }

  @Test("no pod starts on ztunnel's word alone: its listeners must be there")
  func notListening() async throws {
    try await ClusterScene.play { play in
      let identity = try play.scene.namespaces.make("web")
      play.scene.redirection.state.withLock { _ = $0.unserved.insert(identity) }
      play.cluster.pods["web"] = .init(uid: "u1")
      await play.startAndRead()
      let answer = await play.admit("web", uid: "u1", within: .milliseconds(300))
      #expect(answer == .failure(.enrolment(.notListening([15001, 15006, 15008]))))
      #expect(
        await play.scene.loop.waitUntil {
          play.cluster.pods["web"]?.annotations["ambient.istio.io/redirection"] == "pending"
        })
      play.scene.redirection.state.withLock { $0.unserved = [] }
      #expect(await play.admit("web", uid: "u1") == .success(.captured))
    }
  }

  @Test("a pod that lost its ztunnel says so, and its peers are not told to send plaintext")
  func lostZtunnel() async throws {
    try await ClusterScene.play { play in
      let identity = try await play.startWithCapturedPod()
      func proof() -> String? { play.cluster.pods["web"]?.annotations["node-agent.ambient/proof"] }
      #expect(await play.scene.loop.waitUntil { proof() == "PROVEN" })
      play.scene.redirection.state.withLock { _ = $0.unserved.insert(identity) }
      play.scene.enroller.verifyAll()
      #expect(await play.scene.loop.waitUntil { proof() == "PENDING" })
      #expect(play.cluster.pods["web"]?.annotations["ambient.istio.io/redirection"] == "enabled")
      #expect(await play.scene.loop.waitUntil { play.cluster.events.contains("AmbientWaiting") })
      play.scene.redirection.state.withLock { $0.unserved = [] }
      play.scene.enroller.ztunnelCame()
      #expect(await play.scene.loop.waitUntil { proof() == "PROVEN" })
    }
  }

  @Test("a pod whose certificate does not come starts all the same, and says what it lacks")
  func noCertificate() async throws {
    try await ClusterScene.play { play in
      play.scene.announcer.identities[uid("u1")] = false
      try await play.startWithCapturedPod()
      func proof() -> String? { play.cluster.pods["web"]?.annotations["node-agent.ambient/proof"] }
      #expect(await play.scene.loop.waitUntil { proof() == "PENDING" })
      #expect(await play.scene.loop.waitUntil { play.cluster.events == ["AmbientNoCertificate"] })
      play.scene.announcer.identities[uid("u1")] = true
      #expect(await play.scene.loop.waitUntil { proof() == "PROVEN" })
    }
  }

  @Test("the last agent takes back what only it says")
  func withdraw() async throws {
    try await ClusterScene.play { play in
      try await play.startWithCapturedPod()
      func annotations() -> [String: String]? { play.cluster.pods["web"]?.annotations }
      #expect(await play.scene.loop.waitUntil { annotations()?.count == 2 })
      // The watch may not have shown them yet.
      await play.source.withdraw(within: .seconds(5))
      #expect(annotations() == ["ambient.istio.io/redirection": "enabled"])
    }
  }

  @Test("a pod that waits for its namespace for long has an event that says so, once")
  func waitingEvent() async throws {
    try await ClusterScene.play { play in
      play.cluster.pods["web"] = .init(uid: "u1", address: "10.9.9.9")
      await play.startAndRead()
      #expect(await play.scene.loop.waitUntil { play.cluster.events == ["AmbientWaiting"] })
      await play.scene.loop.sleep(for: .milliseconds(300))
      #expect(play.cluster.events == ["AmbientWaiting"])
    }
  }

  @Test("an agent that starts while the API server is away proves what the last one left, and the rest when it is back")
  func restartWithoutServer() async throws {
    try await ClusterScene.play { play in
      let identity = try await play.startWithCapturedPod()
      await play.endAndForget()

      play.cluster.isAway = true
      play.start()
      #expect(play.reports == [.remembered])
      #expect(await play.scene.loop.waitUntil { play.scene.enroller.state(of: uid("u1")) == .announced })
      #expect(play.scene.proofOf("u1")?.namespace == identity)
      #expect(play.scene.proofOf("u1")?.workload.description == "shop/web")
      #expect(play.scene.journal.all == ["write", "add u1"])
      // What it finds changed it repairs.
      play.scene.redirection.state.withLock { _ = $0.deviating.insert(identity) }
      play.scene.enroller.verifyAll()
      #expect(await play.scene.loop.waitUntil { play.scene.journal.all.count == 3 })

      play.cluster.isAway = false
      #expect(await play.scene.loop.waitUntil { play.reports.contains(.complete) && play.cluster.isWatched })
      #expect(play.scene.enroller.state(of: uid("u1")) == .announced)
      play.cluster.tell("DELETED", "web")
      #expect(await play.scene.loop.waitUntil { play.scene.enroller.state(of: uid("u1")) == nil })
    }
  }

  @Test("another namespace under the name of a remembered one is not taken for the pod's")
  func rememberedNamespaceReplaced() async throws {
    try await ClusterScene.play { play in
      try await play.startWithCapturedPod()
      await play.endAndForget()
      try play.scene.namespaces.make("web")
      play.cluster.isAway = true
      play.start()
      #expect(await play.scene.loop.waitUntil { play.scene.enroller.state(of: uid("u1")) == .waitingForNamespace })
      #expect(play.scene.journal.all == [])
      #expect(play.scene.announcer.kept == [uid("u1")], "ztunnel keeps what it has of it")
    }
  }
}

private let notSelected = EnrolmentRules.Reason.notSelected.rawValue

extension Scene {
  fileprivate func proofOf(_ text: String) -> EnrolmentProof? { enroller.proofs[uid(text)] }
}
