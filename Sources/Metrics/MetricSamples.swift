/// Takes the samples of one metric and makes their text.
public struct MetricSamples {
  private let description: MetricDescription
  private let format: MetricFormat
  private var bytes: [UInt8] = []

  init(_ description: MetricDescription, _ format: MetricFormat) {
    self.description = description
    self.format = format
  }

  public mutating func add(_ labels: KeyValuePairs<String, String> = [:], _ value: Int64) {
    add(labels.map { ($0.key, $0.value) }, .integer(value))
  }

  public mutating func add(_ labels: KeyValuePairs<String, String> = [:], _ value: Double) {
    add(labels.map { ($0.key, $0.value) }, .number(value))
  }

  /// Adds a series. An empty label value is shown as `unknown` (observability.md §4).
  public mutating func add(_ labels: [(String, String)], _ reading: MetricReading) {
    if bytes.isEmpty { head() }
    switch reading {
    case .integer(let value): line(description.kind == .counter ? "_total" : "", labels, nil, "\(value)")
    case .number(let value):
      line(description.kind == .counter ? "_total" : "", labels, nil, Self.text(value))
    case .histogram(let reading):
      var total: UInt64 = 0
      for (index, count) in reading.counts.enumerated() {
        total &+= count
        let bound = index < reading.bounds.count ? Self.text(reading.bounds[index]) : "+Inf"
        line("_bucket", labels, bound, "\(total)")
      }
      line("_sum", labels, nil, Self.text(reading.sum))
      line("_count", labels, nil, "\(total)")
    }
  }

  /// The text, nil when there are no samples: such a metric is not mentioned.
  consuming func finish() -> [UInt8]? { bytes.isEmpty ? nil : bytes }

  private mutating func head() {
    // The older text knows a counter by the name of its samples.
    let isOldCounter = format == .prometheus && description.kind == .counter
    let name = isOldCounter ? "\(description.name)_total" : description.name
    let help = description.isStable ? "\(description.help)." : "\(description.help) (unstable)."
    append("# HELP \(name) ")
    append(escaped: help, quotes: format == .openMetrics)
    append("\n# TYPE \(name) \(description.kind.rawValue)\n")
    if let unit = description.unit, format == .openMetrics { append("# UNIT \(name) \(unit)\n") }
  }

  private mutating func line(_ suffix: String, _ labels: [(String, String)], _ bound: String?, _ value: String) {
    append(description.name)
    append(suffix)
    if !labels.isEmpty || bound != nil {
      append("{")
      for (index, (name, value)) in labels.enumerated() {
        append(index == 0 ? "" : ",")
        append(name)
        append("=\"")
        append(escaped: value.isEmpty ? "unknown" : value, quotes: true)
        append("\"")
      }
      if let bound { append("\(labels.isEmpty ? "" : ",")le=\"\(bound)\"") }
      append("}")
    }
    append(" \(value)\n")
  }

  private static func text(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    return value.description
  }

  private mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

  private mutating func append(escaped text: String, quotes: Bool) {
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\\"): append("\\\\")
      case UInt8(ascii: "\n"): append("\\n")
      case UInt8(ascii: "\"") where quotes: append("\\\"")
      default: bytes.append(byte)
      }
    }
  }
}
