import DNS

/// What the DNS proxy has done, by the labels of observability.md §4. Each worker counts for itself; ``merge(_:)`` puts
/// their counts together.
public struct DNSMetrics: Equatable, Sendable {
  public struct Labels: Hashable, Sendable {
    /// Lower case, such as `aaaa`; `other` for types without a name, of which there are too many for a label.
    public var queryType: String
    /// `udp` or `tcp`.
    public var transport: String
    /// `unknown` where the client's workload is not known, or has none.
    public var canonicalService: String
    public var canonicalRevision: String
  }

  public struct Counts: Equatable, Sendable {
    /// `istio_dns_requests_total`.
    public var requests: UInt64 = 0
    /// `istio_dns_upstream_requests_total`.
    public var upstreamRequests: UInt64 = 0
    /// `istio_dns_upstream_failures_total`: no answer, or an answer that is an error. That a name does not exist is neither
    /// (dns.md limit 16).
    public var upstreamFailures: UInt64 = 0
    /// `istio_dns_upstream_request_duration_seconds`: how many fell into each bucket of ``bucketBounds``, and into none.
    public var upstreamDurations = [UInt64](repeating: 0, count: DNSMetrics.bucketBounds.count + 1)
    /// Their sum in seconds.
    public var upstreamSeconds = 0.0
  }

  /// Upper ends of the buckets in seconds; the last one has none.
  public static let bucketBounds = [0.0005, 0.001, 0.01, 0.1, 1, 5]
  /// Sets of labels that are told apart; pods bring new ones all the time.
  static let mostLabels = 4096

  public private(set) var counts: [Labels: Counts] = [:]

  public init() {}

  /// A query that was understood.
  mutating func countRequest(_ labels: Labels) { change(labels) { $0.requests += 1 } }

  /// A query that was forwarded, and what came of it.
  mutating func countUpstream(_ labels: Labels, failed: Bool, after duration: Duration) {
    let seconds = duration / .seconds(1)
    let bucket = Self.bucketBounds.firstIndex { seconds <= $0 } ?? Self.bucketBounds.count
    change(labels) { counts in
      counts.upstreamRequests += 1
      if failed { counts.upstreamFailures += 1 }
      counts.upstreamDurations[bucket] += 1
      counts.upstreamSeconds += seconds
    }
  }

  /// Adds what another worker has counted.
  public mutating func merge(_ other: DNSMetrics) {
    for (labels, more) in other.counts {
      change(labels) { counts in
        counts.requests += more.requests
        counts.upstreamRequests += more.upstreamRequests
        counts.upstreamFailures += more.upstreamFailures
        for (index, count) in more.upstreamDurations.enumerated() { counts.upstreamDurations[index] += count }
        counts.upstreamSeconds += more.upstreamSeconds
      }
    }
  }

  private mutating func change(_ labels: Labels, _ body: (inout Counts) -> Void) {
    let isRoom = counts[labels] != nil || counts.count < Self.mostLabels
    body(&counts[isRoom ? labels : .overflow, default: Counts()])
  }
}

extension DNSMetrics.Labels {
  /// Where those are counted that come when there are too many.
  static let overflow = Self(
    queryType: "other", transport: "udp", canonicalService: "unknown", canonicalRevision: "unknown")

  init(_ type: RecordType?, _ transport: PodDNS.Transport, service: String?, revision: String?) {
    queryType = type.flatMap { $0.isNamed ? $0.description.lowercased() : nil } ?? "other"
    self.transport = transport == .stream ? "tcp" : "udp"
    canonicalService = service.flatMap { $0.isEmpty ? nil : $0 } ?? "unknown"
    canonicalRevision = revision.flatMap { $0.isEmpty ? nil : $0 } ?? "unknown"
  }
}
