public import Logging

/// Where a process's log goes: one format, one changeable filter, one writer. Safe to share between threads.
public struct LogPipeline: Sendable {
  public let format: LogFormat
  public let levels: LogLevels
  public let writer: LogWriter

  public init(format: LogFormat, filter: LogFilter, writer: LogWriter) {
    self.format = format
    self.levels = LogLevels(startupFilter: filter)
    self.writer = writer
  }

  /// The swift-log backend of a target.
  public func handler(for target: String) -> IstioLogHandler {
    IstioLogHandler(target: target, format: format, levels: levels, writer: writer)
  }

  /// A logger that writes here, whatever the process-wide backend is.
  public func logger(for target: String) -> Logger {
    Logger(label: target) { handler(for: $0) }
  }

  /// The connection log, target `access`.
  public var accessLog: AccessLog { AccessLog(self) }
}

/// Makes every `Logger(label:)` of the process write through one pipeline, which is returned. To be called once, before
/// the first logger is made: swift-log stops the process on a second call.
public func bootstrapLogging(format: LogFormat, filter: LogFilter, writer: LogWriter) -> LogPipeline {
  let pipeline = LogPipeline(format: format, filter: filter, writer: writer)
  LoggingSystem.bootstrap { pipeline.handler(for: $0) }
  return pipeline
}
