import Metrics
import Synchronization

/// The counters of one set of traffic labels. One worker counts, anybody reads.
final class TrafficSeries: Sendable {
  let labels: TrafficLabels
  let opened = Counter()
  /// Bytes from the side that opened the connection.
  let received = Counter()
  /// Bytes to the side that opened the connection.
  let sent = Counter()
  private let closedByFlag = ResponseFlag.allCases.map { _ in Counter() }

  init(_ labels: TrafficLabels) { self.labels = labels }

  func closed(_ flag: ResponseFlag) { closedByFlag[flag.index].addAlone() }

  var totals: TrafficTotals {
    TrafficTotals(
      opened: opened.value, received: received.value, sent: sent.value, closed: closedByFlag.map(\.value))
  }
}

/// Counters of traffic at one moment.
struct TrafficTotals: Sendable, Equatable {
  var opened: UInt64 = 0
  var received: UInt64 = 0
  var sent: UInt64 = 0
  /// By flag.
  var closed = [UInt64](repeating: 0, count: ResponseFlag.allCases.count)

  static func += (left: inout TrafficTotals, right: TrafficTotals) {
    left.opened &+= right.opened
    left.received &+= right.received
    left.sent &+= right.sent
    for (index, count) in right.closed.enumerated() { left.closed[index] &+= count }
  }
}

/// Traffic of one pod on one worker. A connection finds its series here once, without a lock; every later count is a
/// plain addition.
final class TrafficShard {
  /// What readers see of it.
  final class Published: Sendable {
    fileprivate let series = Mutex<[TrafficSeries]>([])
  }

  private let metrics: TrafficMetrics
  private let published = Published()
  private var known: [TrafficLabels: TrafficSeries] = [:]

  init(_ metrics: TrafficMetrics) {
    self.metrics = metrics
    metrics.add(published)
  }

  /// The series of `labels`; the one of everything that is too much where there are too many.
  func series(_ labels: TrafficLabels) -> TrafficSeries {
    if let series = known[labels] { return series }
    guard metrics.claimSeries(labels) else {
      return known[.overflow(labels.reporter)] ?? insert(.overflow(labels.reporter))
    }
    return insert(labels)
  }

  private func insert(_ labels: TrafficLabels) -> TrafficSeries {
    let series = TrafficSeries(labels)
    known[labels] = series
    published.series.withLock { $0.append(series) }
    return series
  }

  deinit { metrics.remove(published) }
}

/// All traffic of this process, put together when it is read. Safe from any thread.
///
/// What a pod that has left has counted stays in the sums of its labels for a while, so that the last numbers are read;
/// a label set that no pod here has any more is then forgotten (observability.md limit 7).
final class TrafficMetrics: Sendable {
  private struct Retired {
    var totals = TrafficTotals()
    var until: ContinuousClock.Instant
  }

  private struct State {
    var shards: [ObjectIdentifier: TrafficShard.Published] = [:]
    var retired: [TrafficLabels: Retired] = [:]
    /// How many shards count under each label set.
    var shardsOf: [TrafficLabels: Int] = [:]
    /// Their sum.
    var claims = 0
  }

  private let limit: Int
  private let retention: Duration
  private let folded: Counter
  private let state = Mutex(State())
  private let latest = Mutex<[(labels: TrafficLabels, totals: TrafficTotals)]>([])

  /// A label set costs memory in each pod and on each worker that counts under it: this many times over at most.
  private static let claimsPerSeries = 32

  /// Registers the metrics. `limit` bounds the label sets, however many pods and workers count under one; `retention` is
  /// how long what is counted no more is shown.
  init(_ registry: MetricRegistry, limit: Int = 5000, retention: Duration = .seconds(600)) {
    self.limit = limit
    self.retention = retention
    folded = registry.foldCounter(for: "istio_tcp_connections_opened")
    register(registry)
  }

  /// A shard begins to count under `labels`; false when there are too many label sets already.
  func claimSeries(_ labels: TrafficLabels) -> Bool {
    let isFree = state.withLock { state in
      guard state.shardsOf[labels] != nil || state.shardsOf.count < limit,
        state.claims < limit * Self.claimsPerSeries
      else { return false }
      state.shardsOf[labels, default: 0] += 1
      state.claims += 1
      return true
    }
    if !isFree { folded.add() }
    return isFree
  }

  func add(_ shard: TrafficShard.Published) {
    state.withLock { $0.shards[ObjectIdentifier(shard)] = shard }
  }

  func remove(_ shard: TrafficShard.Published) {
    let series = shard.series.withLock { $0 }
    state.withLock { state in
      state.shards[ObjectIdentifier(shard)] = nil
      for one in series {
        // The series of everything that is too much claimed no place, and gives none back.
        if one.labels != .overflow(one.labels.reporter), let shards = state.shardsOf[one.labels] {
          state.shardsOf[one.labels] = shards > 1 ? shards - 1 : nil
          state.claims -= 1
        }
        var retired = state.retired[one.labels] ?? Retired(until: .now)
        retired.totals += one.totals
        retired.until = .now + retention
        state.retired[one.labels] = retired
      }
    }
  }

  /// Adds everything up, for the texts that are made after it.
  func refresh(at now: ContinuousClock.Instant = .now) {
    let (shards, before) = state.withLock { state in (Array(state.shards.values), state.retired) }
    var sums: [TrafficLabels: TrafficTotals] = [:]
    for shard in shards {
      for series in shard.series.withLock({ $0 }) { sums[series.labels, default: TrafficTotals()] += series.totals }
    }
    var gone: [TrafficLabels] = []
    for (labels, retired) in before {
      // As long as another pod counts under these labels, their sum must not shrink.
      if sums[labels] == nil, retired.until <= now {
        gone.append(labels)
      } else {
        sums[labels, default: TrafficTotals()] += retired.totals
      }
    }
    state.withLock { state in
      for labels in gone where state.retired[labels]?.until == before[labels]?.until { state.retired[labels] = nil }
    }
    let sorted = sums.map { (labels: $0.key, totals: $0.value) }.sorted {
      ($0.labels.reporter.rawValue, $0.labels.source.workload, $0.labels.destination.workload, $0.labels.service.host)
        < (
          $1.labels.reporter.rawValue, $1.labels.source.workload, $1.labels.destination.workload, $1.labels.service.host
        )
    }
    latest.withLock { $0 = sorted }
  }

  private func register(_ registry: MetricRegistry) {
    func counter(
      _ name: String, _ help: String, isStable: Bool = true,
      _ add: @escaping @Sendable (TrafficLabels, TrafficTotals, inout MetricSamples) -> Void
    ) {
      registry.collect(MetricDescription(.counter, name, help, isStable: isStable)) { [weak self] samples in
        for (labels, totals) in self?.latest.withLock({ $0 }) ?? [] { add(labels, totals, &samples) }
      }
    }
    counter("istio_tcp_connections_opened", "The total number of TCP connections opened") { labels, totals, samples in
      samples.add(labels.pairs(.none), .integer(Int64(clamping: totals.opened)))
    }
    counter("istio_tcp_connections_closed", "The total number of TCP connections closed") { labels, totals, samples in
      for flag in ResponseFlag.allCases where totals.closed[flag.index] > 0 {
        samples.add(labels.pairs(flag), .integer(Int64(clamping: totals.closed[flag.index])))
      }
    }
    counter("istio_tcp_received_bytes", "The total number of bytes received by connections from who opened them") {
      labels, totals, samples in
      samples.add(labels.pairs(.none), .integer(Int64(clamping: totals.received)))
    }
    counter("istio_tcp_sent_bytes", "The total number of bytes sent on connections to who opened them") {
      labels, totals, samples in
      samples.add(labels.pairs(.none), .integer(Int64(clamping: totals.sent)))
    }
    counter("istio_tcp_connections_failed", "The total number of TCP connections that failed", isStable: false) {
      labels, totals, samples in
      for flag in ResponseFlag.allCases where flag != .none && totals.closed[flag.index] > 0 {
        samples.add(labels.pairs(flag), .integer(Int64(clamping: totals.closed[flag.index])))
      }
    }
  }
}
