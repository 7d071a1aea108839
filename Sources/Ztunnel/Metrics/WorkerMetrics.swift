import Mesh
import Metrics

/// One worker's part of the metrics: found without a lock. Belongs to the worker.
final class WorkerMetrics {
  let all: ZtunnelMetrics
  let connectionErrors: MetricShard<Counter>
  let policyDenials: MetricShard<Counter>
  let policyDryRuns: MetricShard<Counter>
  let onDemandDNS: MetricFamily<Counter>
  let connectsToNextHops: Histogram
  let connectsToApplications: Histogram
  let outboundHandshakes: Histogram
  let inboundHandshakes: Histogram
  let requestsAccepted: Histogram
  let requestsFailed: Histogram
  let streamsOnNewTunnels: Counter
  let streamsOnKnownTunnels: Counter

  init(_ all: ZtunnelMetrics) {
    self.all = all
    connectionErrors = all.connectionErrors.makeShard()
    policyDenials = all.policyDenials.makeShard()
    policyDryRuns = all.policyDryRuns.makeShard()
    onDemandDNS = all.onDemandDNS
    connectsToNextHops = all.connectDurations.shard(["source"])
    connectsToApplications = all.connectDurations.shard(["destination"])
    outboundHandshakes = all.handshakeDurations.shard(["source"])
    inboundHandshakes = all.handshakeDurations.shard(["destination"])
    requestsAccepted = all.tunnelRequestDurations.shard(["accepted"])
    requestsFailed = all.tunnelRequestDurations.shard(["failed"])
    streamsOnNewTunnels = all.poolStreams.shard(["new"])
    streamsOnKnownTunnels = all.poolStreams.shard(["known"])
  }

  /// Counts a connection that failed or was denied.
  func failed(_ error: ProxyError, _ reporter: TrafficLabels.Reporter) {
    connectionErrors[reporter.rawValue, error.code].add()
    switch error {
    case .policyRejected(let rejection), .policyChanged(let rejection):
      policyDenials[rejection.policy ?? "(none allowed)", error.code].add()
    default: break
    }
  }
}

extension PolicyRejection {
  /// `namespace/name` of the policy that is to blame; nil where it is the lack of one that allows.
  var policy: String? {
    switch self {
    case .explicitlyDenied(let key), .unknownPolicy(let key): key
    case .notAllowed: nil
    }
  }
}

extension PolicyDecision {
  /// The policy that allowed it, where one had to.
  var allowedBy: String? {
    if case .allow(.allowed(by: let key)) = verdict { key } else { nil }
  }
}
