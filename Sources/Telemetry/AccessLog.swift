/// Writes the connection log (observability.md §2). Safe from any thread; never blocks.
public struct AccessLog: Sendable {
  /// The log target of every connection event.
  public static let target = "access"

  private let level: LogLevels.TargetLevel
  private let format: LogFormat
  private let writer: LogWriter

  init(_ pipeline: LogPipeline) {
    level = pipeline.levels.level(for: Self.target)
    format = pipeline.format
    writer = pipeline.writer
  }

  /// Whether events of a level are written now: one atomic load.
  public func isEnabled(_ threshold: LogThreshold) -> Bool { threshold <= level.threshold }

  /// Writes an event if its level is on.
  public func write(_ event: AccessLogEvent) {
    if isEnabled(event.level) { writer.write(event.line(format, at: .now)) }
  }
}
