import Foundation
import Glibc
import TestSupport
import Testing

/// Many pods at once.
extension EnrolmentOnNodeTests {
  @Test("fifty pods made at once all pass the plugin, are captured before they start, and are ready")
  func fifty() async throws {
    try await onNode(startAgent: false) { node, namespace in
      try node.startAgent(try plugin(node))
      try requireEntry(node)
      let count = 50
      let manifests = (0..<count).map { NodePod.manifest("p\($0)", in: namespace, pause: "2") }
      let begin = ContinuousClock.now
      try node.apply(manifests.joined(separator: "\n---\n"))
      var latest: [NodePod] = []
      let areIn = try eventually(within: .seconds(240)) {
        usleep(200_000)
        latest = try node.pods(namespace)
        return latest.count { $0.redirection == "enabled" && $0.isReady } == count
      }
      if !areIn { node.printLogs() }
      #expect(
        areIn, "\(latest.count { $0.redirection == "enabled" }) enrolled, \(latest.count(where: \.isReady)) ready")
      print("\(count) pods created, started, enrolled and ready in \(ContinuousClock.now - begin)")
      #expect(latest.allSatisfy { $0.restarts == 0 })
      let times = try captureTimes(node, namespace)
      #expect(times.count >= count, "each was captured while the runtime waited")
      let counted = try node.metrics().first { $0.hasPrefix("node_agent_pod_capture_seconds_count") }
      #expect(counted?.split(separator: " ").last.flatMap { Int($0) } == times.count)
      print(
        "from CNI ADD to a proven listener, \(times.count) pods: p50 \(Self.quantile(0.5, of: times)), "
          + "p99 \(Self.quantile(0.99, of: times)), longest \(times.last ?? .zero)")
    }
  }

  /// How long the runtime waited for each pod of the namespace until it was captured, in order of length.
  private func captureTimes(_ node: KubernetesNode, _ namespace: String) throws -> [Duration] {
    try node.agent().lines
      .filter { $0.contains("a pod is captured") && $0.contains("admit") && $0.contains(namespace) }
      .compactMap { line in
        // took="0.0123 seconds"
        line.split(separator: "took=").dropFirst().first?.split { $0 == "\"" || $0 == " " }.first
          .flatMap { Double($0) }.map { .milliseconds(Int($0 * 1000)) }
      }
      .sorted()
  }

  /// The nearest rank.
  private static func quantile(_ share: Double, of sorted: [Duration]) -> Duration {
    guard !sorted.isEmpty else { return .zero }
    let rank = Int((share * Double(sorted.count)).rounded(.up))
    return sorted[min(max(rank, 1), sorted.count) - 1]
  }
}
