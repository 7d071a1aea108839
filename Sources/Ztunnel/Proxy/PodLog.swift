import HTTP2
import Logging
import Telemetry
import Vocabulary
import ZDS

/// What is said in detail of the connections of one pod, as long as somebody wants it:
/// `POST /logging?level=pod/NAMESPACE/NAME=debug`. While nobody does, a connection costs an atomic load for each line.
///
/// Lines lie in the spans `proxy{wl}` and `outbound{id}` or `inbound{id}` (observability.md §8). The id goes along with the
/// request, so that lines of both ends can be put together.
struct PodLog {
  private let logger: Logger

  init(_ logger: Logger, _ info: WorkloadInfo, levels: LogLevels) {
    let name = "\(info.namespace)/\(info.name)"
    self.logger = logger.entering(LogSpan("proxy", ["wl": .string(name)])).following(levels.level(ofPod: name))
  }

  /// The log of a connection that the pod opened, nil while nobody reads it. `id` is made up by the caller.
  func outbound(_ id: @autoclosure () -> String) -> Logger? {
    isOn ? logger.entering(LogSpan("outbound", ["id": .string(id())])) : nil
  }

  /// The log of a connection to the pod that came with `headers`, nil while nobody reads it.
  func inbound(_ headers: HTTP2Headers) -> Logger? {
    guard isOn else { return nil }
    return logger.entering(LogSpan("inbound", ["id": .string(Self.traceID(headers) ?? "none")]))
  }

  private var isOn: Bool { logger.logLevel <= .debug }

  /// The trace's id in `traceparent`: 32 digits; nil where there is none.
  static func traceID(_ headers: HTTP2Headers) -> String? {
    guard let text = headers["traceparent"] else { return nil }
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count >= 4, parts[1].utf8.count == 32, parts[1].utf8.allSatisfy(isHexDigit) else { return nil }
    return String(parts[1])
  }

  private static func isHexDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
  }
}
