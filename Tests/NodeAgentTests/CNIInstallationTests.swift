import CNI
import Foundation
import Linux
import Logging
import TestSupport
import Testing

@testable import NodeAgent

/// The watcher, on a loop, in directories that the test plays the node's other programs in.
@Suite("Keeping the CNI plugin installed")
final class CNIInstallationTests {
  private let node: NodeDirectories
  private let loop: EventLoop
  private let metrics = AgentMetrics(version: "1")
  // Used on the loop only.
  nonisolated(unsafe) private var installation: CNIInstallation?

  init() throws {
    node = try NodeDirectories()
    loop = try EventLoop(name: "installation")
    try loop.start()
  }

  deinit {
    loop.stop()
    loop.join()
    // While the loop is still there: watches know it.
    installation = nil
  }

  private func start(_ more: [String: String] = [:]) async throws {
    let settings = try node.settings(more)
    await onLoop { [self] in
      let made = CNIInstallation(
        settings, threads: BlockingThreads(limit: 2), logger: Logger(label: "installation"),
        metrics: metrics, on: loop)
      installation = made
      made.start()
    }
  }

  private func onLoop<Value: Sendable>(_ body: @escaping () async -> Value) async -> Value {
    nonisolated(unsafe) let body = body
    return await withCheckedContinuation { (continuation: CheckedContinuation<Value, Never>) in
      loop.spawn { continuation.resume(returning: await body()) }
    }
  }

  private var isReady: Bool {
    get async { await onLoop { [self] in installation?.isReady ?? false } }
  }

  private func holdsEntry(_ file: String) -> Bool { node.read("net.d/\(file)")?.contains("ambient-cni") == true }

  private func soon(_ condition: () -> Bool, _ place: SourceLocation = #_sourceLocation) async throws {
    let came = try await eventually(within: .seconds(20)) { () async throws -> Bool in condition() }
    #expect(came, sourceLocation: place)
  }

  private func soonReady() async throws -> Bool {
    try await eventually(within: .seconds(20)) { () async throws -> Bool in await self.isReady }
  }

  private func stillReady() async throws {
    let ready = await isReady
    #expect(ready)
  }

  @Test("a configuration that comes later is noticed, and only then the agent is ready")
  func late() async throws {
    try await start()
    try await soon { self.node.read("bin/ambient-cni") != nil }
    let early = await isReady
    #expect(!early)
    func metricsSay(_ line: String) -> Bool {
      String(decoding: metrics.registry.text(.openMetrics), as: UTF8.self).contains(line + "\n")
    }
    try await soon { metricsSay("istio_cni_install_ready 0") }
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    try await soon { self.holdsEntry("10-a.conflist") }
    #expect(try await soonReady())
    try await soon { metricsSay("istio_cni_install_ready 1") }
    try await soon { metricsSay("istio_cni_installs_total{result=\"SUCCESS\"} 1") }
  }

  @Test("what others undo is done again, and the agent stays ready meanwhile")
  func repair() async throws {
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    try await start()
    try await soon { self.holdsEntry("10-a.conflist") }
    #expect(try await soonReady())
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    try await soon { self.holdsEntry("10-a.conflist") }
    try await stillReady()
    try node.write("net.d/05-first.conflist", NodeDirectories.list)
    try await soon { self.holdsEntry("05-first.conflist") }
    try FileManager.default.removeItem(atPath: "\(node.root)/bin/ambient-cni")
    try await soon { self.node.read("bin/ambient-cni") == "program 1" }
    try node.token("t2")
    try await soon { self.node.read("run/istio-cni-kubeconfig")?.contains("t2") == true }
    try await stillReady()
  }

  @Test("a file that is corrected is taken up")
  func corrected() async throws {
    try node.write("net.d/10-a.conflist", "{")
    try await start()
    try await soon { self.node.read("bin/ambient-cni") != nil }
    #expect(node.read("net.d/10-a.conflist") == "{")
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    try await soon { self.holdsEntry("10-a.conflist") }
  }

  @Test("after it was stopped and removed nothing is put back")
  func removed() async throws {
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    try await start()
    try await soon { self.holdsEntry("10-a.conflist") }
    await onLoop { [self] in
      await installation?.stop()
      await installation?.remove()
    }
    #expect(!holdsEntry("10-a.conflist"))
    #expect(node.names("bin") == [])
    #expect(node.names("run") == [])
  }
}
