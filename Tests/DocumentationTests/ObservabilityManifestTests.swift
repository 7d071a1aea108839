import Foundation
import TestSupport
import Testing

@Suite("manifests/observability")
struct ObservabilityManifestTests {
  private static let alertFile = "manifests/observability/alerts.yaml"
  private static let dashboardFile = "manifests/observability/grafana-dashboard.json"

  @Test("Prometheus takes the alert rules", .requires(.command("promtool")))
  func rules() throws {
    let result = try Command.run(
      ["promtool", "check", "rules", Repository.root.appendingPathComponent(Self.alertFile).path], timeout: .seconds(30)
    )
    #expect(result.succeeded, "\(result)")
  }

  /// Names of metrics in a text, without what histograms and counters add.
  private func metrics(in text: String) -> Set<String> {
    Set(
      text.matches(of: /\b((?:istio|ztunnel|node_agent|nodeagent|workload_manager|process)_[a-z_]+)\b/).map { match in
        var name = String(match.1)
        for suffix in ["_total", "_bucket"] where name.hasSuffix(suffix) { name.removeLast(suffix.count) }
        return name
      })
  }

  @Test("rules and dashboard ask only for metrics that the sources have", arguments: [alertFile, dashboardFile])
  func names(_ file: String) throws {
    let sources = try Repository.sources().joined()
    let used = metrics(in: try Repository.text(file))
    #expect(used.count > 8)
    let unknown = used.filter { !sources.contains("\"\($0)\"") }
    #expect(unknown.isEmpty, "unknown: \(unknown.sorted())")
  }

  @Test("the dashboard is JSON whose panels do not lie on each other")
  func dashboard() throws {
    let value = try JSONSerialization.jsonObject(with: Data(try Repository.text(Self.dashboardFile).utf8))
    let panels = try #require((value as? [String: Any])?["panels"] as? [[String: Any]])
    let places = panels.compactMap { $0["gridPos"] as? [String: Int] }.map { "\($0["x"] ?? -1),\($0["y"] ?? -1)" }
    #expect(places.count == panels.count)
    #expect(Set(places).count == places.count)
  }
}
