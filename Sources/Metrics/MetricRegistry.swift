import Synchronization

/// All metrics of a process. Safe from any thread.
public final class MetricRegistry: Sendable {
  /// Adds the samples of a metric that is computed when it is asked for.
  public typealias Collector = @Sendable (inout MetricSamples) -> Void

  private struct Entry: Sendable {
    let description: MetricDescription
    let collect: Collector
  }

  private let entries = Mutex<[Entry]>([])
  private let folds = Mutex<[(name: String, count: Counter)]>([])

  /// Series that a family may have, unless it says otherwise.
  public static let mostSeries = 1000

  /// `prefix` begins the names of the registry's own metrics.
  public init(prefix: String) {
    collect(
      MetricDescription(
        .counter, "\(prefix)_metrics_folded",
        "Times that a series was counted as overflow because its metric has too many")
    ) { [unowned self] samples in
      for (name, count) in folds.withLock({ $0 }) where count.value > 0 {
        samples.add(["metric": name], Int64(clamping: count.value))
      }
    }
  }

  public func counters(_ name: String, _ help: String, labels: [String], isStable: Bool = false, unit: String? = nil)
    -> MetricFamily<Counter>
  {
    family(MetricDescription(.counter, name, help, unit: unit, isStable: isStable), labels) { Counter() }
  }

  public func gauges(_ name: String, _ help: String, labels: [String], isStable: Bool = false) -> MetricFamily<Gauge> {
    family(MetricDescription(.gauge, name, help, isStable: isStable), labels) { Gauge() }
  }

  /// The name ends in `_seconds`.
  public func histograms(_ name: String, _ help: String, labels: [String], bounds: [Double]) -> MetricFamily<Histogram>
  {
    family(MetricDescription(.histogram, name, help, unit: "seconds"), labels) { Histogram(bounds: bounds) }
  }

  public func counter(_ name: String, _ help: String, isStable: Bool = false) -> Counter {
    counters(name, help, labels: [], isStable: isStable)()
  }

  public func gauge(_ name: String, _ help: String, isStable: Bool = false) -> Gauge {
    gauges(name, help, labels: [], isStable: isStable)()
  }

  /// A metric whose samples are computed when it is asked for, on the thread that asks.
  public func collect(_ description: MetricDescription, _ collector: @escaping Collector) {
    entries.withLock { entries in
      precondition(!entries.contains { $0.description.name == description.name }, "a metric is registered once")
      entries.append(Entry(description: description, collect: collector))
    }
  }

  /// Counts what a collector has folded, for the registry's own metric.
  public func foldCounter(for name: String) -> Counter {
    let counter = Counter()
    folds.withLock { $0.append((name, counter)) }
    return counter
  }

  private func family<Instrument: MetricInstrument>(
    _ description: MetricDescription, _ labels: [String], make: @escaping @Sendable () -> Instrument
  ) -> MetricFamily<Instrument> {
    let family = MetricFamily(
      description, labels: labels, limit: Self.mostSeries, folded: foldCounter(for: description.name), make: make)
    collect(description) { samples in
      for (values, reading) in family.readings {
        samples.add(Array(zip(family.labelNames, values)), reading)
      }
    }
    return family
  }

  // MARK: Text

  /// The whole text, metric by metric, each made when it is asked for: a large answer is never in memory as a whole.
  public func pieces(_ format: MetricFormat) -> some Sequence<[UInt8]> & Sendable {
    Pieces(entries: entries.withLock { $0 }, format: format)
  }

  /// The whole text.
  public func text(_ format: MetricFormat) -> [UInt8] { Array(pieces(format).joined()) }

  private struct Pieces: Sequence, IteratorProtocol, Sendable {
    var entries: [Entry]
    let format: MetricFormat
    var index = 0

    mutating func next() -> [UInt8]? {
      while index < entries.count {
        let entry = entries[index]
        index += 1
        var samples = MetricSamples(entry.description, format)
        entry.collect(&samples)
        if let text = samples.finish() { return text }
      }
      guard index == entries.count else { return nil }
      index += 1
      return format == .openMetrics ? Array("# EOF\n".utf8) : []
    }
  }
}
