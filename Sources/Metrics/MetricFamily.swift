import Synchronization

/// The instruments of one metric, one for each set of label values. Safe from any thread.
///
/// Asking for an instrument takes a lock and is not for every byte: whoever counts much keeps what it got, or, where
/// label values vary, has a ``MetricShard``.
///
/// The number of label sets is bounded. What comes after is counted in one series whose label values are all
/// `overflow`, and how often that happened is a metric too.
public final class MetricFamily<Instrument: MetricInstrument>: Sendable {
  public let description: MetricDescription
  public let labelNames: [String]

  private struct Series {
    var common: Instrument?
    var shards: [Instrument] = []
  }

  private let limit: Int
  private let folded: Counter
  private let make: @Sendable () -> Instrument
  private let series = Mutex<[[String]: Series]>([:])

  init(
    _ description: MetricDescription, labels: [String], limit: Int, folded: Counter,
    make: @escaping @Sendable () -> Instrument
  ) {
    self.description = description
    labelNames = labels
    self.limit = limit
    self.folded = folded
    self.make = make
  }

  /// The instrument that everybody has for these label values, in the order of the family's names.
  public func callAsFunction(_ values: String...) -> Instrument { instrument(values) }

  /// The instrument that everybody has for these label values.
  public func instrument(_ values: [String]) -> Instrument {
    let fresh = make()
    return series.withLock { series in
      let key = key(values, in: series)
      if let known = series[key]?.common { return known }
      series[key, default: Series()].common = fresh
      return fresh
    }
  }

  /// A new instrument for the caller alone, shown in one sum with all others for these label values.
  public func shard(_ values: [String]) -> Instrument {
    let fresh = make()
    series.withLock { series in series[key(values, in: series), default: Series()].shards.append(fresh) }
    return fresh
  }

  /// What a thread keeps that counts under varying labels.
  public func makeShard() -> MetricShard<Instrument> { MetricShard(self) }

  /// Shows the series no longer. Whoever still has an instrument of it counts into the void.
  public func remove(_ values: [String]) {
    series.withLock { $0[values] = nil }
  }

  private func key(_ values: [String], in series: [[String]: Series]) -> [String] {
    precondition(values.count == labelNames.count, "one value for each label")
    if series[values] != nil || series.count < limit { return values }
    folded.add()
    return labelNames.map { _ in "overflow" }
  }

  /// Every series and its reading, ordered by label values.
  public var readings: [(labels: [String], reading: MetricReading)] {
    let found = series.withLock { series in
      series.map { key, series in (key, series.shards + (series.common.map { [$0] } ?? [])) }
    }
    return found.sorted { $0.0.lexicographicallyPrecedes($1.0) }.compactMap { key, instruments in
      guard let first = instruments.first else { return nil }
      return (key, instruments.dropFirst().reduce(first.reading) { $0 + $1.reading })
    }
  }
}

/// One thread's part of a family: finds instruments without a lock. Not to be shared.
public final class MetricShard<Instrument: MetricInstrument> {
  private let family: MetricFamily<Instrument>
  private var known: [[String]: Instrument] = [:]

  /// More than this are asked for anew each time: the memory of label sets that never come back is bounded.
  private static var mostKnown: Int { 4096 }

  init(_ family: MetricFamily<Instrument>) { self.family = family }

  public subscript(_ values: String...) -> Instrument {
    if let instrument = known[values] { return instrument }
    let instrument = family.instrument(values)
    if known.count < Self.mostKnown { known[values] = instrument }
    return instrument
  }
}
