import Foundation
import Synchronization
import TestSupport
import Testing

/// Where a real node comes from: a script that brings up an API server, a kubelet and a container runtime inside a
/// network namespace, and prints the environment to use them as `export` lines; beside it one named `down`.
struct NodeRig {
  let up: String
  var down: String { (up as NSString).deletingLastPathComponent + "/down" }

  /// The script of `AMBIENT_K8S_RIG`, or `../shared/k8s/up` beside the checkout.
  static let found: NodeRig? = {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let beside = root.deletingLastPathComponent().appending(path: "shared/k8s/up").path
    let path = ProcessInfo.processInfo.environment["AMBIENT_K8S_RIG"] ?? beside
    return FileManager.default.isExecutableFile(atPath: path) ? NodeRig(up: path) : nil
  }()

  /// What the script built before: without it, bringing up a node takes a quarter of an hour.
  static var isWarm: Bool {
    let cache = ProcessInfo.processInfo.environment["K8S_CACHE"] ?? "/var/cache/ambient-k8s"
    return FileManager.default.fileExists(atPath: cache + "/bin/.recipe")
  }

  static var isTaken: Bool { FileManager.default.fileExists(atPath: "/run/ambient-k8s/env") }
}

extension Requirement {
  static var kubernetesNode: Requirement {
    if NodeRig.found == nil {
      return Requirement(false, otherwise: "needs a real node: set AMBIENT_K8S_RIG, see docs/kubernetes-testing.md")
    }
    if !NodeRig.isWarm {
      return Requirement(false, otherwise: "the node's cache is cold: run the rig's `up --build` once")
    }
    return Requirement(!NodeRig.isTaken, otherwise: "a node is up already, and there can be only one")
  }
}

/// Brings the node up before the first test of a suite and takes it down after the last.
struct RunningNode: SuiteTrait, TestScoping {
  func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable @concurrent () async throws -> Void
  )
    async throws
  {
    let node = try KubernetesNode()
    KubernetesNode.shared.withLock { $0 = node }
    defer {
      KubernetesNode.shared.withLock { $0 = nil }
      node.stop()
    }
    try node.startLoad()
    try await function()
  }
}

extension Trait where Self == RunningNode {
  static var runningNode: Self { RunningNode() }
}
