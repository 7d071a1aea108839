import Foundation
import Linux
import TestSupport
import Testing

/// What is inside the pods' network namespaces.
extension KubernetesNode {
  /// Files of the network namespaces of pods, as the container runtime has made them.
  func podNamespacePaths() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: "/run/netns").filter { $0.hasPrefix("cni-") }.sorted()
      .map { "/run/netns/\($0)" }
  }

  /// The network namespace that has this pod's address.
  func network(of pod: NodePod) throws -> (path: String, namespace: NetworkNamespace) {
    let address = try #require(pod.address)
    for path in try podNamespacePaths() {
      // Namespaces of pods that end just now go away meanwhile.
      guard let namespace = try? NetworkNamespace(path: path), (try? namespace.holds(anyOf: [address])) == true else {
        continue
      }
      return (path, namespace)
    }
    throw CommandError.notFound("a namespace with \(address)")
  }

  /// Whether exactly the redirection of an enrolled pod is inside.
  func isCaptured(_ pod: NodePod) throws -> Bool {
    let binary = try #require(BuiltProduct.path("node-agent"))
    return try Command.run([binary, "rules", "--netns", try network(of: pod).path, "--check"]).succeeded
  }

  /// Whether nothing of ours is inside.
  func isUntouched(_ pod: NodePod) throws -> Bool {
    let binary = try #require(BuiltProduct.path("node-agent"))
    let rules = try Command.mustRun([binary, "rules", "--netns", try network(of: pod).path])
    return !rules.contains("ISTIO")
  }

  /// Whether exactly the redirection of an enrolled pod is in the namespace that this file names.
  func isCaptured(_ path: String) throws -> Bool {
    let binary = try #require(BuiltProduct.path("node-agent"))
    return try Command.run([binary, "rules", "--netns", path, "--check"]).succeeded
  }
}
