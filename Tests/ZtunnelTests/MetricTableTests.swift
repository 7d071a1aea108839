import Foundation
import Identity
import Linux
import Mesh
import Metrics
import TLS
import Telemetry
import Testing
import Vocabulary

@testable import XDS
@testable import Ztunnel

/// Every metric by the name, type, unit, labels and stability that dashboards and alerts of others rely on
/// (observability.md §4, §4.1), and those that are ours.
@Suite("The table of metrics")
struct MetricTableTests {
  private struct Row: Hashable, CustomStringConvertible {
    /// Of the samples, without what histograms add.
    let name: String
    let type: String
    let unit: String
    let isStable: Bool
    let labels: [String]

    init(_ name: String, _ type: String, _ labels: String = "", unit: String = "", isStable: Bool = false) {
      self.name = name
      self.type = type
      self.unit = unit
      self.isStable = isStable
      self.labels = labels.split(separator: " ").map(String.init)
    }

    var description: String { "\(name) \(type) [\(unit)] \(isStable ? "stable" : "unstable") \(labels)" }
  }

  private static let source = """
    source_workload source_canonical_service source_canonical_revision source_workload_namespace source_principal \
    source_app source_version source_cluster
    """
  private static let traffic = """
    reporter \(source) destination_service destination_service_namespace destination_service_name \
    destination_workload destination_canonical_service destination_canonical_revision \
    destination_workload_namespace destination_principal destination_app destination_version destination_cluster \
    request_protocol response_flags connection_security_policy source_region source_zone destination_region \
    destination_zone
    """
  private static let dns = "request_query_type request_protocol source_canonical_service source_canonical_revision"

  private static let istio: [Row] = [
    Row("istio_tcp_connections_opened_total", "counter", traffic, isStable: true),
    Row("istio_tcp_connections_closed_total", "counter", traffic, isStable: true),
    Row("istio_tcp_received_bytes_total", "counter", traffic, isStable: true),
    Row("istio_tcp_sent_bytes_total", "counter", traffic, isStable: true),
    Row("istio_tcp_connections_failed_total", "counter", traffic),
    Row("istio_tcp_sockets_open", "gauge", "reporter"),
    Row("istio_on_demand_dns_total", "counter", source + " hostname"),
    Row("istio_crl_policy_rejections_total", "counter", "reporter"),
    Row("istio_crl_untracked_connections_total", "counter", "reporter"),
    Row("istio_build", "gauge", "component tag", isStable: true),
    Row("istio_xds_connection_terminations_total", "counter", "reason"),
    Row("istio_xds_message_total", "counter", "url"),
    Row("istio_xds_message_bytes_total", "counter", "url", unit: "bytes"),
    Row("istio_dns_requests_total", "counter", dns),
    Row("istio_dns_upstream_requests_total", "counter", dns),
    Row("istio_dns_upstream_failures_total", "counter", dns),
    Row("istio_dns_upstream_request_duration_seconds", "histogram", dns, unit: "seconds"),
    Row("workload_manager_active_proxy_count", "gauge"),
    Row("workload_manager_pending_proxy_count", "gauge"),
    Row("workload_manager_proxies_started_total", "counter"),
    Row("workload_manager_proxies_stopped_total", "counter"),
    Row("process_open_fds", "gauge", isStable: true),
    Row("process_max_fds", "gauge", isStable: true),
  ]

  private static let ours: [Row] = [
    Row("process_resident_memory_bytes", "gauge", unit: "bytes"),
    Row("process_cpu_seconds_total", "counter", unit: "seconds"),
    Row("ztunnel_connection_errors_total", "counter", "reporter code"),
    Row("ztunnel_policy_denials_total", "counter", "policy code"),
    Row("ztunnel_policy_allowances_total", "counter", "policy"),
    Row("ztunnel_policy_dry_run_total", "counter", "policy outcome"),
    Row("ztunnel_connect_duration_seconds", "histogram", "reporter", unit: "seconds"),
    Row("ztunnel_tls_handshake_duration_seconds", "histogram", "reporter", unit: "seconds"),
    Row("ztunnel_hbone_connect_duration_seconds", "histogram", "result", unit: "seconds"),
    Row("ztunnel_pool_streams_opened_total", "counter", "tunnel"),
    Row("ztunnel_pool_tunnels", "gauge", "state"),
    Row("ztunnel_pool_streams", "gauge"),
    Row("ztunnel_inbound_tunnels", "gauge"),
    Row("ztunnel_pod_connections", "gauge", "namespace pod direction"),
    Row("ztunnel_pod_connections_opened_total", "counter", "namespace pod direction"),
    Row("ztunnel_pod_bytes_total", "counter", "namespace pod way", unit: "bytes"),
    Row("ztunnel_accept_pauses_total", "counter"),
    Row("ztunnel_tunnels_turned_away_total", "counter"),
    Row("ztunnel_connections_left_total", "counter"), Row("ztunnel_connections_taken_over_total", "counter"),
    Row("ztunnel_certificates", "gauge", "state"),
    Row("ztunnel_certificate_issued_timestamp_seconds", "gauge", "identity", unit: "seconds"),
    Row("ztunnel_certificate_expiry_timestamp_seconds", "gauge", "identity", unit: "seconds"),
    Row("ztunnel_certificate_requests_total", "counter", "result"),
    Row("ztunnel_log_lines_total", "counter", "result"),
    Row("ztunnel_metrics_folded_total", "counter", "metric"),
    Row("ztunnel_mesh_resources", "gauge", "kind"),
    Row("ztunnel_mesh_file_refused", "gauge"),
    Row("ztunnel_node_agent_connected", "gauge"),
    Row("ztunnel_pods_not_stored", "gauge"),
    Row("ztunnel_xds_connected", "gauge"),
    Row("ztunnel_xds_rejected_resources_total", "counter", "type"),
    Row("ztunnel_xds_last_answer_age_seconds", "gauge", unit: "seconds"),
  ]

  @Test("is what is served: no name, type, unit or label is missing, or is there that nobody was told of")
  func table() async throws {
    let rows = try await Self.served()
    let expected = Set(Self.istio + Self.ours)
    #expect(rows.subtracting(expected).isEmpty, "served, and not in the table")
    #expect(expected.subtracting(rows).isEmpty, "in the table, and not served")
  }

  @Test("histograms have the buckets that dashboards ask for")
  func buckets() async throws {
    let text = try await Self.text()
    let bounds = text.split(separator: "\n").filter {
      $0.hasPrefix("istio_dns_upstream_request_duration_seconds_bucket")
    }
    .compactMap { $0.firstMatch(of: /le="([^"]*)"/).map { String($0.1) } }
    #expect(bounds == ["0.0005", "0.001", "0.01", "0.1", "1.0", "5.0", "+Inf"])
  }

  // MARK: What is served

  private static func served() async throws -> Set<Row> {
    var (types, units, unstable): ([String: String], [String: String], Set<String>) = ([:], [:], [])
    var rows: Set<Row> = []
    for line in try await text().split(separator: "\n") {
      let words = line.split(separator: " ").map(String.init)
      if line.hasPrefix("# TYPE ") { types[words[2]] = words[3] }
      if line.hasPrefix("# UNIT ") { units[words[2]] = words[3] }
      if line.hasPrefix("# HELP "), line.hasSuffix(" (unstable).") { unstable.insert(words[2]) }
      guard !line.hasPrefix("#") else { continue }
      var name = String(line.prefix { $0 != "{" && $0 != " " })
      let known = types.keys.first { family in
        name == family || ["_total", "_bucket", "_sum", "_count"].contains { name == family + $0 }
      }
      let family = try #require(known, "\(name) has a type")
      if types[family] == "histogram" { name = family }
      let labels = line.matches(of: /[{,]([a-z_]+)="/).map { String($0.1) }.filter { $0 != "le" }
      rows.insert(
        Row(
          name, types[family] ?? "", labels.joined(separator: " "), unit: units[family] ?? "",
          isStable: !unstable.contains(family)))
    }
    return rows
  }

  /// The text of a proxy that has everything, and has seen everything once.
  private static func text() async throws -> String {
    let directory = FileManager.default.temporaryDirectory.appending(path: "metrics-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try DevelopmentAuthority.create(in: directory)
    let certificates = CertificateStore(authority: try LocalAuthority(directory: directory, lifetime: .seconds(3600)))
    let identity = try #require(SPIFFEIdentity(uri: "spiffe://cluster.local/ns/shop/sa/web"))
    _ = try await certificates.credentials(for: identity, until: .now + .seconds(10))

    let metrics = ZtunnelMetrics(version: "1.2.3")
    let writer = try LogWriter(SharedDescriptor(try Descriptor.open("/dev/null", O_WRONLY))) { _ in [] }
    metrics.register(certificates: certificates, log: LogPipeline(format: .plain, filter: .standard, writer: writer))
    metrics.register(RevocationState())
    metrics.register(SharedMesh(MeshSnapshot()))
    metrics.register(NodeConditions())
    var plane = XDSStatistics()
    plane.terminations = [.reconnect: 1]
    plane.messages = [.address: .init(count: 1, bytes: 2)]
    plane.rejectedResources = [.authorization: 1]
    plane.lastAnswer = .now
    let statistics = plane
    metrics.register { statistics }

    let worker = WorkerMetrics(metrics)
    worker.onDemandDNS.instrument(Array(repeating: "x", count: 9)).add()
    worker.failed(.policyRejected(.notAllowed), .destination)
    worker.policyAllowances["shop/web"].add()
    worker.policyDryRuns["shop/web", "denied"].add()
    worker.requestsAccepted.observe(.milliseconds(1))
    let shard = TrafficShard(metrics.traffic)
    let series = shard.series(.overflow(.source))
    series.closed(.denied)
    // So that something is folded.
    for index in 0...MetricRegistry.mostSeries { worker.policyAllowances["\(index)"].add() }
    var report = WorkerReport()
    report.pods = [.init(namespace: "shop", name: "web"): .init()]
    report.dns.countRequest(DNSMetrics.Labels(.a, .datagrams, service: "web", revision: "v1"))
    metrics.refresh([report])
    defer { withExtendedLifetime(shard) {} }
    return String(decoding: metrics.registry.text(.openMetrics), as: UTF8.self)
  }
}
