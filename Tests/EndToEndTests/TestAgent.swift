import Foundation
import Linux
import Redirection
import Synchronization
import TestSupport
import ZDS

/// The node agent's part of a test: redirects pods and announces them over ZDS, without the daemon around it.
final class TestAgent: Sendable {
  let socketPath: String
  private let loop: EventLoop
  // Touched by the loop's thread only, once it is there.
  nonisolated(unsafe) private var server: ZDSServer?
  private let events = Mutex<[String]>([])

  /// Binds the socket and accepts at once. Throws ``ZDSError``.
  init(socketPath: String) async throws {
    self.socketPath = socketPath
    loop = try EventLoop(name: "test-agent")
    try loop.start()
    try await restart(announcing: [])
  }

  /// Binds the socket, after ``stop()``, and accepts with a snapshot of `pods`. Writes no rules. Throws ``ZDSError``.
  func restart(announcing pods: [MeshPod]) async throws {
    let snapshot = try pods.map { (try $0.zdsUID, $0.info, $0.pod.place.namespace) }
    try await onLoop { agent in
      var limits = ZDSServer.Limits()
      limits.acceptPause = .milliseconds(10)
      let server = try ZDSServer(path: try UnixSocketPath(agent.socketPath), limits: limits, on: agent.loop) { event in
        agent.events.withLock { $0.append(event.description) }
      }
      for (uid, info, namespace) in snapshot {
        do { try await server.add(uid, info, in: namespace) } catch ZDSError.notConnected {}
      }
      try server.startAccepting()
      agent.server = server
    }
  }

  deinit {
    loop.stop()
    loop.join()
  }

  /// What happened on the socket so far.
  var history: [String] { events.withLock { $0 } }

  /// Writes the rules into the pod and has ztunnel serve it. Throws what either says.
  func enrol(_ pod: MeshPod, _ settings: RedirectionSettings = RedirectionSettings()) async throws {
    _ = try Redirector(lockPath: socketPath + ".lock").apply(settings, in: pod.pod.place.namespace)
    try await announce(pod)
  }

  /// Has ztunnel serve the pod. Throws what it says.
  func announce(_ pod: MeshPod) async throws {
    let (uid, info, namespace) = (try pod.zdsUID, pod.info, pod.pod.place.namespace)
    let end = ContinuousClock.now + .seconds(10)
    while true {
      do {
        try await onLoop { try await $0.server?.add(uid, info, in: namespace) }
        return
      } catch ZDSError.notConnected where ContinuousClock.now < end {
        try await Task.sleep(for: .milliseconds(20))
      }
    }
  }

  /// Has ztunnel let go of the pod and takes the rules out of it.
  func remove(_ pod: MeshPod, keepingRules: Bool = false) async throws {
    let uid = try pod.zdsUID
    try await onLoop { await $0.server?.delete(uid) }
    if !keepingRules {
      _ = try Redirector(lockPath: socketPath + ".lock").remove(from: pod.pod.place.namespace)
    }
  }

  /// Waits until `count` snapshots in all have been taken over by ztunnels; false when that takes too long.
  func hasSentSnapshots(_ count: Int) -> Bool {
    eventually(within: .seconds(10)) {
      history.count { $0.contains("has the whole snapshot") } >= count
    }
  }

  /// Closes the socket, as an agent that ends.
  func stop() async throws {
    try await onLoop { agent in
      agent.server?.stop()
      agent.server = nil
    }
  }

  private func onLoop(_ body: @escaping @Sendable (TestAgent) async throws -> Void) async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      loop.spawn {
        do { continuation.resume(returning: try await body(self)) } catch { continuation.resume(throwing: error) }
      }
    }
  }
}
