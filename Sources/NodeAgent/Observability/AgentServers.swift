import HTTPServer
import Linux
import Logging
import Metrics

/// The node agent's HTTP ports: metrics and health (enrollment.md §10). They have a thread of their own.
final class AgentServers: Sendable {
  private let loop: EventLoop
  private let metrics: HTTPServer
  private let health: HTTPServer

  /// Starts the thread and listens. A port that is taken is logged and done without: workloads are enrolled all the
  /// same. Throws ``SystemError`` when there is no thread.
  init(
    _ configuration: NodeAgentConfiguration, _ agentMetrics: AgentMetrics, _ readiness: AgentReadiness,
    _ heartbeat: Heartbeat, logger: Logger
  ) throws(SystemError) {
    loop = try EventLoop(name: "node-agent-http")
    try loop.start()
    metrics = HTTPServer(on: loop) { request in
      guard request.path == "/metrics" else { return HTTPResponse(status: 404) }
      let format = MetricFormat(accept: request.headers.list("accept"))
      return HTTPResponse(
        headers: ["content-type": format.contentType], body: .bytes(agentMetrics.registry.text(format)))
    }
    health = HTTPServer(on: loop) { readiness.answer($0, trouble: heartbeat.trouble()) }
    for (server, port) in [(metrics, configuration.monitoringPort), (health, configuration.healthPort)] where port != 0
    {
      do throws(HTTPServerError) { try server.listen(on: .everyAddress(port: port)) } catch {
        logger.warning(
          "\(error.summary)", metadata: ["error_code": "\(error.code)", "remedy": "\(error.remedy ?? "")"])
      }
    }
  }

  /// Answers what is under way and ends the thread.
  func end() async {
    await metrics.stop(within: .seconds(1))
    await health.stop(within: .seconds(1))
    loop.stop()
  }
}
