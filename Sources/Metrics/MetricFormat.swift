/// The two texts that scrapers read.
public enum MetricFormat: Sendable {
  /// OpenMetrics 1.0.
  case openMetrics
  /// Prometheus' older text, version 0.0.4: what `text/plain` means to those who read it. (The reference sends
  /// OpenMetrics under this name too, in which parsers do not find the types of counters.)
  case prometheus

  public var contentType: String {
    switch self {
    case .openMetrics: "application/openmetrics-text;charset=utf-8;version=1.0.0"
    case .prometheus: "text/plain; version=0.0.4; charset=utf-8"
    }
  }

  /// OpenMetrics where the client names it. `accept` are the members of its Accept field.
  public init(accept: [String]) {
    let isNamed = accept.contains { member in
      member.split(separator: ";").first.map { $0.filter { $0 != " " } } == "application/openmetrics-text"
    }
    self = isNamed ? .openMetrics : .prometheus
  }
}
