import Glibc
import HTTPServer
import Linux
import Metrics

/// The agent's own control socket: who may open it may read what is proven, and change nothing.
///
/// `GET /status` answers JSON, `GET /status.txt` a table; both with 200 when everything is as wanted, else 503, so that
/// `curl --fail` is a check. `GET /metrics` answers for scrapers.
final class StatusEndpoint {
  private let server: HTTPServer
  private let path: String

  /// `report` is called on `loop`.
  init(path: String, registry: MetricRegistry, on loop: EventLoop, report: @escaping @Sendable () -> StatusReport) {
    self.path = path
    server = HTTPServer(on: loop) { request in Self.answer(request, registry, report) }
  }

  /// Listens on the socket, readable by root only, in a directory that is made when it is missing. Throws
  /// `HTTPServerError`.
  func start() throws {
    if let slash = path.lastIndex(of: "/"), slash != path.startIndex { mkdir(String(path[..<slash]), 0o755) }
    try server.listen(on: .unix(path: path, mode: 0o600))
  }

  func stop() async { await server.stop(within: .seconds(1)) }

  private static func answer(
    _ request: HTTPRequest, _ registry: MetricRegistry, _ report: @Sendable () -> StatusReport
  ) -> HTTPResponse {
    guard ["/status", "/status.txt", "/metrics"].contains(request.path) else {
      return .text("there are /status, /status.txt and /metrics\n", status: 404)
    }
    guard request.method == "GET" || request.method == "HEAD" else { return .methodNotAllowed(allow: "GET, HEAD") }
    if request.path == "/metrics" {
      let format = MetricFormat(accept: request.headers.list("accept"))
      return HTTPResponse(headers: ["content-type": format.contentType], body: .bytes(registry.text(format)))
    }
    let report = report()
    let status = report.isAsWanted ? 200 : 503
    guard request.path == "/status" else { return .text(report.text, status: status) }
    return HTTPResponse(
      status: status, headers: ["content-type": "application/json"], body: .bytes(report.json.indentedBytes))
  }
}
