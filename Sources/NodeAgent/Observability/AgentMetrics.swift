public import Metrics
import Synchronization
import ZDS

/// The node agent's metrics. Safe from any thread. Parts that count something of their own register it in ``registry``.
public final class AgentMetrics: Sendable {
  public let registry: MetricRegistry
  /// By name in enrollment.md §3: attempts to bring a workload in (`add`), to change it (`update`), out (`delete`).
  public let reconcileEvents: MetricFamily<Counter>
  /// Redirection that was found to deviate from what had been proven.
  public let ruleRepairs: Counter
  /// By name in zds.md §11: ztunnels that have the whole snapshot.
  public let connectedZtunnels: Gauge
  let enrolmentErrors: MetricFamily<Counter>
  /// Workloads that were cut off, by ``FenceReason``.
  let fences: MetricFamily<Counter>
  /// By name in enrollment.md §9.1.
  let installs: MetricFamily<Counter>
  /// Without a value where there is no plugin.
  let installReady: MetricFamily<Gauge>
  /// By name in enrollment.md §8.4.
  let pluginRequests: MetricFamily<Counter>
  /// From the plugin's question to the answer that the pod is captured, its listeners proven.
  let podCapture: Histogram
  /// By name in enrollment.md §11.
  let repairedPods: MetricFamily<Counter>
  let ztunnelEvents: MetricFamily<Counter>
  private let states = Mutex<[String: Int64]>([:])
  private let live = Mutex<Set<UInt64>>([])

  /// `version` is the tag of the build.
  public init(version: String) {
    registry = MetricRegistry(prefix: "node_agent")
    reconcileEvents = registry.counters(
      "nodeagent_reconcile_events", "Attempts to bring workloads to where they should be", labels: ["type"])
    ruleRepairs = registry.counter(
      "node_agent_rule_repairs", "Times that redirection of a workload deviated and was written again")
    connectedZtunnels = registry.gauge("ztunnel_connected", "Ztunnels that are connected and have the whole snapshot")
    enrolmentErrors = registry.counters(
      "node_agent_enrolment_errors", "Failed attempts to enrol a workload or to let it go, by stable error code",
      labels: ["code"])
    fences = registry.counters(
      "node_agent_fences", "Times that a workload was cut off because its capture was not proven", labels: ["reason"])
    installs = registry.counters(
      "istio_cni_installs", "Times that the CNI plugin was installed or repaired, or could not be", labels: ["result"])
    installReady = registry.gauges(
      "istio_cni_install_ready", "1 while new pods pass through the CNI plugin", labels: [])
    pluginRequests = registry.counters(
      "istio_cni_plugin_requests", "Answers to the CNI plugin by HTTP status", labels: ["response_code"])
    podCapture = registry.histograms(
      "node_agent_pod_capture_seconds",
      "Time from the CNI plugin's question about a pod of the mesh to its proven listeners", labels: [],
      bounds: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30])()
    repairedPods = registry.counters(
      "istio_cni_repair_pods_repaired", "Pods whose sidecar found no redirection, by what was done",
      labels: ["type", "result"])
    ztunnelEvents = registry.counters(
      "node_agent_ztunnel_events", "What happened on the socket for ztunnels", labels: ["event"])
    registry.collect(MetricDescription(.gauge, "istio_build", "Istio component build info", isStable: true)) {
      $0.add(["component": "cni", "tag": version], Int64(1))
    }
    registry.collect(
      MetricDescription(.gauge, "node_agent_workloads", "Workloads by how far they are on their way into the mesh")
    ) { [weak self] samples in
      for (state, count) in self?.states.withLock({ $0 }).sorted(by: { $0.key < $1.key }) ?? [] {
        samples.add(["state": state], count)
      }
    }
    registry.addProcessMetrics()
  }

  func set(_ all: some Sequence<EnrolmentState>) {
    var counts = Dictionary(uniqueKeysWithValues: EnrolmentState.labels.map { ($0, Int64(0)) })
    for state in all { counts[state.label, default: 0] += 1 }
    states.withLock { $0 = counts }
  }

  func count(_ event: ZDSServerEvent) {
    ztunnelEvents(event.label).add()
    let count = live.withLock { live in
      switch event {
      case .live(let id): live.insert(id)
      case .closed(let id, _): live.remove(id)
      default: break
      }
      return live.count
    }
    connectedZtunnels.set(Int64(count))
  }
}

extension EnrolmentState {
  static let labels = [
    "waiting_for_namespace", "redirecting", "waiting_for_ztunnel", "announced", "outside", "leaving", "failed",
  ]

  /// A word for metrics.
  var label: String {
    switch self {
    case .waitingForNamespace: "waiting_for_namespace"
    case .redirecting: "redirecting"
    case .waitingForZtunnel: "waiting_for_ztunnel"
    case .announced: "announced"
    case .outside: "outside"
    case .leaving: "leaving"
    case .failed: "failed"
    }
  }
}

extension ZDSServerEvent {
  /// A word for metrics.
  var label: String {
    switch self {
    case .connected: "connected"
    case .peerRefused: "peer_refused"
    case .tooManyConnections: "too_many_connections"
    case .acceptFailed: "accept_failed"
    case .hello: "hello"
    case .live: "live"
    case .snapshotEntryRefused: "snapshot_entry_refused"
    case .told: "told"
    case .socketRefused: "socket_refused"
    case .closed: "closed"
    case .mailboxesDropped: "mailboxes_dropped"
    }
  }
}
