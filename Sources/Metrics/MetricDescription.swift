/// What a metric is called and means (observability.md §4).
public struct MetricDescription: Sendable {
  public enum Kind: String, Sendable {
    case counter, gauge, histogram
  }

  /// Without the `_total` of counters.
  public let name: String
  public let kind: Kind
  /// One sentence without its full stop.
  public let help: String
  /// The base unit, which the name then ends in, such as `seconds`.
  public let unit: String?
  /// Whether others may rely on it: Istio's own tests look for a mark in the help of those on which they may not.
  public let isStable: Bool

  public init(_ kind: Kind, _ name: String, _ help: String, unit: String? = nil, isStable: Bool = false) {
    precondition(unit.map { name.hasSuffix("_\($0)") } ?? true, "the name of a metric with a unit ends in it")
    precondition(!name.hasSuffix("_total"), "the suffix is for the samples")
    self.name = name
    self.kind = kind
    self.help = help
    self.unit = unit
    self.isStable = isStable
  }
}
