import HTTPServer
import Telemetry

/// `POST /logging`: levels at run time (observability.md §3).
enum LoggingEndpoint {
  static func answer(_ request: HTTPRequest, _ levels: LogLevels) -> HTTPResponse {
    guard request.method == "POST" else { return .methodNotAllowed(allow: "POST", usage(levels)) }
    let text = request.query("level") ?? ""
    let isReset = request.query("reset") != nil
    do throws(LogFilterError) {
      let clauses = text.isEmpty ? nil : try LogFilter(text)
      if isReset {
        try levels.reset(then: clauses)
      } else if let clauses {
        try levels.append(clauses)
      }
      return .text("current log level is \(levels.filter)\n")
    } catch {
      return .text("\(error.summary)\n\(usage(levels))", status: 400)
    }
  }

  private static func usage(_ levels: LogLevels) -> String {
    """
    usage: POST /logging                           (show the current levels)
           POST /logging?level=<level>             (change the level of everything)
           POST /logging?level=<target>:<level>    (change the level of a target; also <target>=<level>)
           POST /logging?level=<clause>,<clause>   (several)
           POST /logging?level=pod/<namespace>/<name>=debug   (details of one pod's connections)
           POST /logging?reset                     (return to the levels at start)

    where <level> is one of off, error, warn, info, debug, trace, and <target> begins one of:
    \(levels.knownTargets.map { "       \($0)" }.joined(separator: "\n"))

    """
  }
}
