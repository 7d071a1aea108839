public import Logging
import Vocabulary

/// Writes swift-log events the way Istio's ztunnel writes its own, so that people and tools read both alike
/// (observability.md §1). The logger's label is the target.
///
/// Fields come out sorted by name, then `error` and `error_code` when the event carries an error.
public struct IstioLogHandler: LogHandler {
  public var metadata: Logger.Metadata = [:]
  public var metadataProvider: Logger.MetadataProvider?
  var spans: [LogSpan] = []
  /// That of the pod it writes about, if it is about one.
  var podLevel: LogLevels.TargetLevel?

  private let level: LogLevels.TargetLevel
  private let format: LogFormat
  private let writer: LogWriter
  private var ownLevel: Logger.Level?

  init(target: String, format: LogFormat, levels: LogLevels, writer: LogWriter) {
    level = levels.level(for: target)
    self.format = format
    self.writer = writer
  }

  /// The filter's level for this target, unless this logger was given one of its own.
  public var logLevel: Logger.Level {
    get { ownLevel ?? threshold.mostVerboseLevel }
    set { ownLevel = newValue }
  }

  private var threshold: LogThreshold {
    guard let podLevel else { return level.threshold }
    return max(level.threshold, podLevel.threshold)
  }

  public subscript(metadataKey key: String) -> Logger.MetadataValue? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  public func log(event: LogEvent) {
    // swift-log has no level above critical, so `off` is decided here.
    if ownLevel == nil, threshold == .off { return }
    var line = LogLine(
      format, time: .now, level: LogThreshold(writing: event.level), scope: level.target, spans: spans,
      message: event.message.description)
    for (key, value) in LogValue.sorted(fields(of: event)) { line.field(key, value) }
    if let error = event.error { Self.describe(error, in: &line) }
    for span in spans { line.spanObject(span) }
    writer.write(line.finish())
  }

  private func fields(of event: LogEvent) -> Logger.Metadata {
    var fields = metadata
    if let provided = metadataProvider?.get() { fields.merge(provided) { $1 } }
    if let own = event.metadata { fields.merge(own) { $1 } }
    return fields
  }

  private static func describe(_ error: any Error, in line: inout LogLine) {
    guard let coded = error as? any CodedError else { return line.field("error", "\(error)") }
    line.field("error", coded.summary)
    line.field("error_code", coded.code)
    line.field("remedy", coded.remedy)
  }
}
