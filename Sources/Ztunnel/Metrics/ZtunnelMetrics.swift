import Identity
import Metrics
import Synchronization
import TLS
import Telemetry
import Vocabulary
import XDS

/// All metrics of the proxy. Safe from any thread.
final class ZtunnelMetrics: Sendable {
  let registry: MetricRegistry
  let traffic: TrafficMetrics
  // By name in observability.md §4.
  let onDemandDNS: MetricFamily<Counter>
  let xdsTerminations: MetricFamily<Counter>
  let xdsMessages: MetricFamily<Counter>
  let xdsMessageBytes: MetricFamily<Counter>
  let activeProxies: Gauge
  let pendingProxies: Gauge
  let proxiesStarted: Counter
  let proxiesStopped: Counter
  // Ours.
  let connectionErrors: MetricFamily<Counter>
  let policyDenials: MetricFamily<Counter>
  let policyDryRuns: MetricFamily<Counter>
  let connectDurations: MetricFamily<Histogram>
  let handshakeDurations: MetricFamily<Histogram>
  let tunnelRequestDurations: MetricFamily<Histogram>
  let poolStreams: MetricFamily<Counter>
  let xdsConnected: Gauge
  let xdsRejections: MetricFamily<Counter>
  /// What the workers last said of themselves.
  private let reports = Mutex<[Int: WorkerReport]>([:])

  private static let latencyBounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
  /// Pods with series of their own.
  private static let mostPods = 500

  /// `version` is the tag of the build.
  init(version: String) {
    registry = MetricRegistry(prefix: "ztunnel")
    traffic = TrafficMetrics(registry)
    let source = [
      "source_workload", "source_canonical_service", "source_canonical_revision", "source_workload_namespace",
      "source_principal", "source_app", "source_version", "source_cluster",
    ]
    onDemandDNS = registry.counters(
      "istio_on_demand_dns", "The total number of requests that used on-demand DNS", labels: source + ["hostname"])
    xdsTerminations = registry.counters(
      "istio_xds_connection_terminations", "The total number of completed connections to the control plane",
      labels: ["reason"])
    xdsMessages = registry.counters(
      "istio_xds_message", "The total number of messages received from the control plane", labels: ["url"])
    xdsMessageBytes = registry.counters(
      "istio_xds_message_bytes", "The total number of bytes received from the control plane", labels: ["url"],
      unit: "bytes")
    activeProxies = registry.gauge(
      "workload_manager_active_proxy_count", "The number of pods that are served now")
    pendingProxies = registry.gauge(
      "workload_manager_pending_proxy_count", "The number of pods that could not be served yet")
    proxiesStarted = registry.counter(
      "workload_manager_proxies_started", "The total number of pods that began to be served")
    proxiesStopped = registry.counter(
      "workload_manager_proxies_stopped", "The total number of pods that ceased to be served")
    connectionErrors = registry.counters(
      "ztunnel_connection_errors", "Connections that failed or were denied, by stable error code",
      labels: ["reporter", "code"])
    policyDenials = registry.counters(
      "ztunnel_policy_denials", "Connections denied by policy; a change of policy that closes one counts too",
      labels: ["policy", "code"])
    policyDryRuns = registry.counters(
      "ztunnel_policy_dry_run", "What dry-run policies would have done", labels: ["policy", "outcome"])
    connectDurations = registry.histograms(
      "ztunnel_connect_duration_seconds", "Time of TCP connects that succeeded, to next hops (source) and applications",
      labels: ["reporter"], bounds: Self.latencyBounds)
    handshakeDurations = registry.histograms(
      "ztunnel_tls_handshake_duration_seconds", "Time of TLS handshakes that succeeded", labels: ["reporter"],
      bounds: Self.latencyBounds)
    tunnelRequestDurations = registry.histograms(
      "ztunnel_hbone_connect_duration_seconds", "Time until a next hop answered CONNECT", labels: ["result"],
      bounds: Self.latencyBounds)
    poolStreams = registry.counters(
      "ztunnel_pool_streams_opened", "Streams opened on tunnels, by whether the tunnel was there already",
      labels: ["tunnel"])
    xdsConnected = registry.gauge("ztunnel_xds_connected", "1 while there is a stream to the control plane")
    xdsRejections = registry.counters(
      "ztunnel_xds_rejected_resources", "Resources of the control plane that were not taken", labels: ["type"])
    for reporter in TrafficLabels.Reporter.allCases {
      // A histogram that is there from the start makes rates right from the first observation.
      _ = (connectDurations(reporter.rawValue), handshakeDurations(reporter.rawValue))
    }
    registry.collect(
      MetricDescription(.gauge, "istio_build", "Istio component build info", isStable: true)
    ) { $0.add(["component": "ztunnel", "tag": version], Int64(1)) }
    registry.addProcessMetrics()
    registerReports()
    registerDNS()
  }

  /// Takes what the workers say of themselves, and adds the traffic up, for the texts that are made after it. Of a worker
  /// that does not answer the last word stands: its part of a counter must not be missing.
  func refresh(_ latest: [WorkerReport]) {
    reports.withLock { reports in
      for report in latest { reports[report.worker] = report }
    }
    traffic.refresh()
  }

  // MARK: Computed when asked for

  private func sums() -> WorkerReport { reports.withLock { $0 }.values.reduce(into: WorkerReport()) { $0 += $1 } }

  private func registerDNS() {
    func add(
      _ description: MetricDescription, _ reading: @escaping @Sendable (DNSMetrics.Counts) -> MetricReading
    ) {
      registry.collect(description) { [weak self] samples in
        for (labels, counts) in self?.sums().dns.counts ?? [:] {
          samples.add(
            [
              ("request_query_type", labels.queryType), ("request_protocol", labels.transport),
              ("source_canonical_service", labels.canonicalService),
              ("source_canonical_revision", labels.canonicalRevision),
            ], reading(counts))
        }
      }
    }
    add(MetricDescription(.counter, "istio_dns_requests", "The total number of DNS requests")) {
      .integer(Int64(clamping: $0.requests))
    }
    add(
      MetricDescription(.counter, "istio_dns_upstream_requests", "The total number of DNS requests forwarded upstream")
    ) {
      .integer(Int64(clamping: $0.upstreamRequests))
    }
    add(
      MetricDescription(
        .counter, "istio_dns_upstream_failures", "The total number of DNS requests for which forwarding failed")
    ) { .integer(Int64(clamping: $0.upstreamFailures)) }
    add(
      MetricDescription(
        .histogram, "istio_dns_upstream_request_duration_seconds", "The time that forwarded DNS requests took",
        unit: "seconds")
    ) {
      .histogram(
        HistogramReading(
          bounds: DNSMetrics.bucketBounds, counts: $0.upstreamDurations, sum: $0.upstreamSeconds))
    }
  }

  private func registerReports() {
    func gauge(
      _ name: String, _ help: String, _ add: @escaping @Sendable (WorkerReport, inout MetricSamples) -> Void
    ) {
      registry.collect(MetricDescription(.gauge, name, help)) { [weak self] samples in
        if let self { add(sums(), &samples) }
      }
    }
    gauge("istio_tcp_sockets_open", "The current number of open sockets of downstream connections") {
      $1.add(["reporter": "source"], Int64($0.sourceSockets))
      $1.add(["reporter": "destination"], Int64($0.destinationSockets))
    }
    gauge("ztunnel_pool_tunnels", "Tunnels to next hops, by state") {
      $1.add(["state": "open"], Int64($0.poolTunnels))
      $1.add(["state": "draining"], Int64($0.poolDraining))
      $1.add(["state": "dialing"], Int64($0.poolDialing))
    }
    gauge("ztunnel_pool_streams", "Streams open on tunnels to next hops") { $1.add([:], Int64($0.poolStreams)) }
    gauge("ztunnel_inbound_tunnels", "Tunnels that peers opened") { $1.add([:], Int64($0.inboundTunnels)) }
    gauge("ztunnel_pod_connections", "Connections under way, by pod") { report, samples in
      for (pod, part) in report.shown(atMost: Self.mostPods) {
        samples.add(
          ["namespace": pod.namespace, "pod": pod.name, "direction": "inbound"], Int64(part.inboundConnections))
        samples.add(
          ["namespace": pod.namespace, "pod": pod.name, "direction": "outbound"], Int64(part.outboundConnections))
      }
    }
    registry.collect(
      MetricDescription(.counter, "ztunnel_pod_bytes", "Bytes that applications sent and received", unit: "bytes")
    ) { [weak self] samples in
      for (pod, part) in self?.sums().shown(atMost: Self.mostPods) ?? [] {
        samples.add(
          ["namespace": pod.namespace, "pod": pod.name, "way": "sent"], Int64(clamping: part.bytesSent))
        samples.add(
          ["namespace": pod.namespace, "pod": pod.name, "way": "received"], Int64(clamping: part.bytesReceived))
      }
    }
  }

  /// Adds what is asked of others when the text is made.
  func register(certificates: CertificateStore, log: LogPipeline) {
    registry.collect(
      MetricDescription(.gauge, "ztunnel_certificates", "Identities with a certificate, waiting for one, without one")
    ) { samples in
      var counts = ["available": Int64(0), "initializing": 0, "unavailable": 0]
      for status in certificates.statuses() { counts[status.state.label, default: 0] += 1 }
      for (state, count) in counts.sorted(by: { $0.key < $1.key }) { samples.add(["state": state], count) }
    }
    func time(_ name: String, _ help: String, _ instant: @escaping @Sendable (Certificate) -> Timestamp) {
      registry.collect(MetricDescription(.gauge, name, help, unit: "seconds")) { samples in
        for status in certificates.statuses().prefix(MetricRegistry.mostSeries) {
          guard let leaf = status.chain.first else { continue }
          samples.add(["identity": status.identity.description], instant(leaf).secondsSinceEpoch)
        }
      }
    }
    time("ztunnel_certificate_issued_timestamp_seconds", "When the certificate in use began to be valid") {
      $0.notBefore
    }
    time("ztunnel_certificate_expiry_timestamp_seconds", "When the certificate in use ends to be valid") { $0.notAfter }
    registry.collect(
      MetricDescription(.counter, "ztunnel_certificate_requests", "Answers of the certificate authority")
    ) { samples in
      let counts = certificates.counts
      samples.add(["result": "issued"], Int64(clamping: counts.issued))
      samples.add(["result": "failed"], Int64(clamping: counts.failed))
    }
    registry.collect(MetricDescription(.counter, "ztunnel_log_lines", "Log lines, by what became of them")) { samples in
      let counts = log.writer.counts
      samples.add(["result": "written"], Int64(clamping: counts.finished - min(counts.finished, counts.failed)))
      samples.add(["result": "dropped"], Int64(clamping: counts.dropped))
      samples.add(["result": "failed"], Int64(clamping: counts.failed))
    }
  }
}

extension ZtunnelMetrics {
  /// Adds the sizes of the mesh.
  func register(_ mesh: SharedMesh) {
    registry.collect(MetricDescription(.gauge, "ztunnel_mesh_resources", "What is known of the mesh")) { samples in
      let mesh = mesh.snapshot
      samples.add(["kind": "policy"], Int64(mesh.policyCount))
      samples.add(["kind": "service"], Int64(mesh.serviceCount))
      samples.add(["kind": "workload"], Int64(mesh.workloadCount))
    }
  }

  /// Counts what happens between this proxy and the control plane.
  func count(_ event: DeltaClientEvent) {
    switch event {
    case .connected: xdsConnected.set(1)
    case .received(let url, let bytes):
      xdsMessages(url).add()
      xdsMessageBytes(url).add(UInt64(bytes))
    case .rejected(let type): xdsRejections(type.name).add()
    case .ended(let status, let wasConnected):
      xdsConnected.set(0)
      let reason =
        switch status.status {
        case .ok: "Complete"
        case _ where !wasConnected: "ConnectionError"
        case .unavailable, .cancelled, .deadlineExceeded: "Reconnect"
        default: "Error"
        }
      xdsTerminations(reason).add()
    }
  }
}

extension CertificateStatus.State {
  /// A word for a label.
  var label: String {
    switch self {
    case .initializing: "initializing"
    case .available: "available"
    case .unavailable: "unavailable"
    }
  }
}
