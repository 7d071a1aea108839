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
  let activeProxies: Gauge
  let pendingProxies: Gauge
  let proxiesStarted: Counter
  let proxiesStopped: Counter
  // Ours.
  let connectionErrors: MetricFamily<Counter>
  let policyDenials: MetricFamily<Counter>
  let policyAllowances: MetricFamily<Counter>
  let policyDryRuns: MetricFamily<Counter>
  let connectDurations: MetricFamily<Histogram>
  let handshakeDurations: MetricFamily<Histogram>
  let tunnelRequestDurations: MetricFamily<Histogram>
  let poolStreams: MetricFamily<Counter>
  let acceptPauses: Counter
  let turnedAway: Counter
  let connectionsLeft: Counter
  let connectionsTakenOver: Counter
  /// How it goes with the control plane; nil without one.
  private let controlPlane = Mutex<(@Sendable () -> XDSStatistics)?>(nil)
  /// What the workers last said of themselves.
  private let reports = Mutex<[Int: WorkerReport]>([:])
  private let places: Mutex<PodPlaces>
  /// What is shown of each pod.
  private let pods = Mutex<[(WorkerReport.PodName, WorkerReport.Pod)]>([])

  private static let latencyBounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
  /// Pods with series of their own.
  private static let mostPods = 500

  /// `version` is the tag of the build; `mostPods` have series of their own.
  init(version: String, mostPods: Int = ZtunnelMetrics.mostPods) {
    places = Mutex(PodPlaces(limit: mostPods))
    registry = MetricRegistry(prefix: "ztunnel")
    traffic = TrafficMetrics(registry)
    let source = [
      "source_workload", "source_canonical_service", "source_canonical_revision", "source_workload_namespace",
      "source_principal", "source_app", "source_version", "source_cluster",
    ]
    onDemandDNS = registry.counters(
      "istio_on_demand_dns", "The total number of requests that used on-demand DNS", labels: source + ["hostname"])
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
    policyAllowances = registry.counters(
      "ztunnel_policy_allowances", "Connections that an ALLOW policy let through", labels: ["policy"])
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
    acceptPauses = registry.counter(
      "ztunnel_accept_pauses", "Times that a listener paused for lack of descriptors or memory")
    turnedAway = registry.counter(
      "ztunnel_tunnels_turned_away", "Tunnels of peers that were closed at once for lack of descriptors")
    connectionsLeft = registry.counter(
      "ztunnel_connections_left", "Plain connections that were left to the next ztunnel at the end")
    connectionsTakenOver = registry.counter(
      "ztunnel_connections_taken_over", "Plain connections that an earlier ztunnel has left")
    for reporter in TrafficLabels.Reporter.allCases {
      // A histogram that is there from the start makes rates right from the first observation.
      _ = (connectDurations(reporter.rawValue), handshakeDurations(reporter.rawValue))
    }
    registry.collect(
      MetricDescription(.gauge, "istio_build", "Istio component build info", isStable: true)
    ) { $0.add(["component": "ztunnel", "tag": version], Int64(1)) }
    registry.addProcessMetrics()
    registerReports()
    registerPods()
    registerDNS()
  }

  /// Takes what the workers say of themselves, and adds the traffic up, for the texts that are made after it. Of a worker
  /// that does not answer the last word stands: its part of a counter must not be missing.
  func refresh(_ latest: [WorkerReport]) {
    reports.withLock { reports in
      for report in latest { reports[report.worker] = report }
    }
    let shown = places.withLock { $0.show(sums().pods) }
    pods.withLock { $0 = shown }
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
  }

  private func registerPods() {
    func collect(
      _ description: MetricDescription, label: String, _ parts: [(String, @Sendable (WorkerReport.Pod) -> Int64)]
    ) {
      registry.collect(description) { [weak self] samples in
        for (pod, report) in self?.pods.withLock({ $0 }) ?? [] {
          for (value, part) in parts {
            samples.add(
              [("namespace", pod.namespace), ("pod", pod.name), (label, value)], .integer(part(report)))
          }
        }
      }
    }
    collect(
      MetricDescription(.gauge, "ztunnel_pod_connections", "Connections under way, by pod"), label: "direction",
      [("inbound", { Int64($0.inboundConnections) }), ("outbound", { Int64($0.outboundConnections) })])
    collect(
      MetricDescription(.counter, "ztunnel_pod_connections_opened", "Connections opened, by pod"), label: "direction",
      [("inbound", { Int64(clamping: $0.openedInbound) }), ("outbound", { Int64(clamping: $0.openedOutbound) })])
    collect(
      MetricDescription(.counter, "ztunnel_pod_bytes", "Bytes that applications sent and received", unit: "bytes"),
      label: "way",
      [("sent", { Int64(clamping: $0.bytesSent) }), ("received", { Int64(clamping: $0.bytesReceived) })])
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
  /// Adds what the revocation list has ended.
  func register(_ revocations: RevocationState) {
    registry.collect(
      MetricDescription(
        .counter, "istio_crl_policy_rejections", "Handshakes refused and connections closed because of the CRL")
    ) { samples in
      samples.add(["reporter": "source"], Int64(clamping: revocations.rejections(.source)))
      samples.add(["reporter": "destination"], Int64(clamping: revocations.rejections(.destination)))
    }
    registry.collect(
      MetricDescription(
        .counter, "istio_crl_untracked_connections", "Tunnels that a change of the CRL would not have closed")
    ) { samples in
      // None: a tunnel keeps the chain its peer was trusted by for as long as it is open, and is looked at each time.
      samples.add(["reporter": "source"], Int64(0))
      samples.add(["reporter": "destination"], Int64(0))
    }
  }

  /// Adds what may be wrong with the node.
  func register(_ conditions: NodeConditions) {
    func gauge(_ name: String, _ help: String, _ value: @escaping @Sendable (NodeConditions.Values) -> Int64) {
      registry.collect(MetricDescription(.gauge, name, help)) { $0.add([:], value(conditions.current)) }
    }
    gauge("ztunnel_node_agent_connected", "1 while the node agent is connected") { $0.isAgentConnected ? 1 : 0 }
    gauge("ztunnel_mesh_file_refused", "1 while an older version of the mesh file is in force than the one on disk") {
      $0.meshFileError == nil ? 0 : 1
    }
    gauge("ztunnel_pods_not_stored", "Pods whose sockets did not fit into the service manager's descriptor store") {
      Int64($0.podsNotStored)
    }
  }

  /// Adds the sizes of the mesh.
  func register(_ mesh: SharedMesh) {
    registry.collect(MetricDescription(.gauge, "ztunnel_mesh_resources", "What is known of the mesh")) { samples in
      let mesh = mesh.snapshot
      samples.add(["kind": "policy"], Int64(mesh.policyCount))
      samples.add(["kind": "service"], Int64(mesh.serviceCount))
      samples.add(["kind": "workload"], Int64(mesh.workloadCount))
    }
  }

  /// True while there is a stream to the control plane.
  var isControlPlaneConnected: Bool {
    controlPlane.withLock { $0 }?().connectedSince != nil
  }

  /// Adds how it goes between this proxy and the control plane.
  func register(controlPlane statistics: @escaping @Sendable () -> XDSStatistics) {
    controlPlane.withLock { $0 = statistics }
    func collect(
      _ description: MetricDescription, _ add: @escaping @Sendable (XDSStatistics, inout MetricSamples) -> Void
    ) {
      registry.collect(description) { add(statistics(), &$0) }
    }
    collect(
      MetricDescription(
        .counter, "istio_xds_connection_terminations", "The total number of completed connections to the control plane")
    ) {
      for (reason, count) in $0.terminations { $1.add(["reason": reason.rawValue], Int64(clamping: count)) }
    }
    collect(
      MetricDescription(.counter, "istio_xds_message", "The total number of messages received from the control plane")
    ) {
      for (type, messages) in $0.messages { $1.add(["url": type.rawValue], Int64(clamping: messages.count)) }
    }
    collect(
      MetricDescription(
        .counter, "istio_xds_message_bytes", "The total number of bytes received from the control plane", unit: "bytes")
    ) {
      for (type, messages) in $0.messages { $1.add(["url": type.rawValue], Int64(clamping: messages.bytes)) }
    }
    collect(MetricDescription(.gauge, "ztunnel_xds_connected", "1 while there is a stream to the control plane")) {
      $1.add([:], $0.connectedSince == nil ? Int64(0) : Int64(1))
    }
    collect(
      MetricDescription(
        .counter, "ztunnel_xds_rejected_resources", "Resources of the control plane that were not taken")
    ) {
      for (type, count) in $0.rejectedResources { $1.add(["type": type.name], Int64(clamping: count)) }
    }
    collect(
      MetricDescription(
        .gauge, "ztunnel_xds_last_answer_age_seconds", "Time since a response was answered", unit: "seconds")
    ) {
      guard let last = $0.lastAnswer else { return }
      $1.add([:], (ContinuousClock.now - last).components.seconds)
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
