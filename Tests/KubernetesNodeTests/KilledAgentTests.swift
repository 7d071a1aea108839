import Foundation
import Glibc
import TestSupport
import Testing

/// An agent that dies half-way through an enrolment. Where, is said by name: debug builds have it die there.
extension EnrolmentOnNodeTests {
  /// Inside of what writes rules, which knows no pods.
  private static let anonymous = "rules-without-capture"

  /// All points of an enrolment. The anonymous one comes first, when no other pod's rules are still to be written.
  private static let points = [
    anonymous, "remembered", "namespace-found", "fence-raised", "rules-written", "fence-lowered", "announced",
    "probes-exempt", "annotated",
  ]

  /// Starts an agent that dies at a point of this pod's enrolment, and waits until its successor would be needed.
  private func startDoomed(
    _ node: KubernetesNode, at point: String, of pod: String, _ variables: [String: String] = [:]
  ) throws -> RunningProcess {
    let subject = point == Self.anonymous ? "" : "@\(pod)"
    var variables = variables
    variables["AMBIENT_FAULTS"] = "die-at=\(point)\(subject)"
    let agent = try node.startAgent(variables)
    try #require(agent.waitForLine(containing: "has the whole snapshot", within: Self.patience) != nil)
    return agent
  }

  @Test("an agent that dies at any point of a new pod's enrolment leaves it unstarted, and the next one enrols it")
  func deadlyPointsWithPlugin() async throws {
    try await onNode(startAgent: false) { node, namespace in
      let variables = try plugin(node)
      try node.startAgent(variables)
      try requireEntry(node)
      for point in Self.points {
        node.stopAgent(with: SIGKILL)
        let agent = try startDoomed(node, at: point, of: point, variables)
        try node.apply(NodePod.manifest(point, in: namespace))
        #expect(agent.waitForExit(within: Self.patience) == 128 + SIGKILL, "\(point)")
        // The last point is past the plugin's answer.
        guard point != "annotated" else { continue }
        let pod = try node.pods(namespace).first { $0.name == point }
        #expect(pod?.phase == "Pending", "\(point): nothing of the pod runs")
      }
      try node.startAgent(variables)
      for pod in try enrolled(node, namespace, Self.points.count) {
        #expect(try node.isCaptured(pod), "\(pod.name)")
        #expect(pod.restarts == 0, "\(pod.name)")
      }
      node.stopAgent(with: SIGTERM)
    }
  }

  @Test("an agent that dies at any point of a running pod's enrolment lets nothing out, and the next one finishes it")
  func deadlyPoints() async throws {
    try await onNode(ambient: false, startAgent: false) { node, namespace in
      for point in Self.points { try node.apply(NodePod.manifest(point, in: namespace)) }
      _ = try pods(node, namespace, "all run") { $0.count(where: \.isReady) == Self.points.count }
      for point in Self.points {
        let agent = try startDoomed(node, at: point, of: point)
        try node.kubectl(["label", "pod", point, "-n", namespace, "istio.io/dataplane-mode=ambient"])
        #expect(agent.waitForExit(within: Self.patience) == 128 + SIGKILL, "\(point)")
        #expect(try node.escapes().escaped == [], "\(point)")
      }
      try node.startAgent()
      for pod in try enrolled(node, namespace, Self.points.count) {
        #expect(try node.isCaptured(pod), "\(pod.name)")
        #expect(pod.restarts == 0, "\(pod.name)")
      }
    }
  }
}
