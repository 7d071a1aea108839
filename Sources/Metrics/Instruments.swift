import Synchronization

/// What the code of a daemon holds on to and changes. Reading and changing are safe from any thread and take no lock.
public protocol MetricInstrument: AnyObject, Sendable {
  var reading: MetricReading { get }
}

/// A number that only grows.
public final class Counter: MetricInstrument {
  private let count = Atomic<UInt64>(0)

  public init() {}

  public var value: UInt64 { count.load(ordering: .relaxed) }

  public func add(_ amount: UInt64 = 1) { count.wrappingAdd(amount, ordering: .relaxed) }

  /// The same for a counter that one thread alone changes: no locked instruction.
  public func addAlone(_ amount: UInt64 = 1) {
    count.store(count.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
  }

  public var reading: MetricReading { .integer(Int64(clamping: value)) }
}

/// A number that goes up and down.
public final class Gauge: MetricInstrument {
  private let current = Atomic<Int64>(0)

  public init() {}

  public var value: Int64 { current.load(ordering: .relaxed) }

  public func set(_ value: Int64) { current.store(value, ordering: .relaxed) }

  public func add(_ amount: Int64 = 1) { current.wrappingAdd(amount, ordering: .relaxed) }

  public func subtract(_ amount: Int64 = 1) { current.wrappingSubtract(amount, ordering: .relaxed) }

  public var reading: MetricReading { .integer(value) }
}

/// How many observed values lie in each of several ranges. Values are seconds.
public final class Histogram: MetricInstrument {
  private let bounds: [Double]
  private let limits: [Int64]
  private let counters: [Counter]
  private let nanoseconds = Atomic<Int64>(0)

  /// `bounds` are the ranges' upper ends in seconds, ascending.
  public init(bounds: [Double]) {
    self.bounds = bounds
    limits = bounds.map { Int64($0 * 1e9) }
    counters = (0...bounds.count).map { _ in Counter() }
  }

  public func observe(_ duration: Duration) {
    let (seconds, attoseconds) = duration.components
    let amount = min(max(0, seconds), 1 << 32) * 1_000_000_000 + max(0, attoseconds) / 1_000_000_000
    let index = limits.firstIndex { amount <= $0 } ?? limits.count
    counters[index].add()
    nanoseconds.wrappingAdd(amount, ordering: .relaxed)
  }

  public var reading: MetricReading {
    .histogram(
      HistogramReading(
        bounds: bounds, counts: counters.map(\.value), sum: Double(nanoseconds.load(ordering: .relaxed)) / 1e9))
  }
}
