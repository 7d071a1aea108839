public import Logging

/// What an event happened inside of, such as one connection or one pod's proxy (observability.md §1.1, §8).
public struct LogSpan: Sendable {
  public let name: String
  public let fields: [(String, LogValue)]

  public init(_ name: String, _ fields: KeyValuePairs<String, LogValue> = [:]) {
    self.name = name
    self.fields = fields.map { ($0.key, $0.value) }
  }
}

extension Logger {
  /// A logger whose events carry one more enclosing span, innermost last. A logger that another backend writes for is
  /// returned as it is.
  public func entering(_ span: LogSpan) -> Logger {
    guard var inner = handler as? IstioLogHandler else { return self }
    inner.spans.append(span)
    return Logger(label: label) { [inner] _ in inner }
  }

  /// A logger that also writes what `level` lets through, though its target's level does not. A logger that another
  /// backend writes for is returned as it is.
  public func following(_ level: LogLevels.TargetLevel) -> Logger {
    guard var inner = handler as? IstioLogHandler else { return self }
    inner.podLevel = level
    return Logger(label: label) { [inner] _ in inner }
  }
}
