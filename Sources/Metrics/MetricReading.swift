/// The value of one series at one moment.
public enum MetricReading: Sendable, Equatable {
  case integer(Int64)
  case number(Double)
  case histogram(HistogramReading)

  /// The reading of two series that are shown as one.
  static func + (left: MetricReading, right: MetricReading) -> MetricReading {
    switch (left, right) {
    case (.integer(let left), .integer(let right)): .integer(left &+ right)
    case (.histogram(let left), .histogram(let right)): .histogram(left + right)
    case (.integer(let left), .number(let right)): .number(Double(left) + right)
    case (.number(let left), .integer(let right)): .number(left + Double(right))
    case (.number(let left), .number(let right)): .number(left + right)
    // A family has instruments of one kind.
    case (.histogram, _), (_, .histogram): left
    }
  }
}

/// A histogram at one moment.
public struct HistogramReading: Sendable, Equatable {
  /// Upper bounds, ascending, without infinity.
  public let bounds: [Double]
  /// Observations in each bucket, not cumulative; one more than bounds.
  public var counts: [UInt64]
  public var sum: Double

  public init(bounds: [Double], counts: [UInt64], sum: Double) {
    self.bounds = bounds
    self.counts = counts
    self.sum = sum
  }

  static func + (left: HistogramReading, right: HistogramReading) -> HistogramReading {
    guard left.bounds == right.bounds else { return left }
    return HistogramReading(
      bounds: left.bounds, counts: zip(left.counts, right.counts).map { $0 &+ $1 }, sum: left.sum + right.sum)
  }
}
