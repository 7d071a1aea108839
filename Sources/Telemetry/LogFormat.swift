/// How a log line is laid out (observability.md §1).
public enum LogFormat: String, Hashable, Sendable, CaseIterable {
  /// Tab-separated columns: time, level, scope, message, fields.
  case plain
  /// One JSON object a line.
  case json

  /// The value of `LOG_FORMAT`: exactly `json` chooses JSON, everything else plain.
  public init(environmentValue: String?) {
    self = environmentValue == "json" ? .json : .plain
  }
}
