import Glibc
import HTTPServer
import Identity
import Linux
import Logging
import Metrics
import Telemetry
import Vocabulary
import ZDS

/// The three HTTP servers of the proxy: admin, statistics, readiness (observability.md §5). They have a thread of their
/// own, so that a large answer or a stuck client concerns neither connections nor configuration.
final class AdminServer: Sendable {
  private let configuration: ZtunnelConfiguration
  private let sources: AdminSources
  private let loop: EventLoop
  private let questions: WorkerQuestions
  private let admin: HTTPServer
  private let statistics: HTTPServer
  private let readiness: HTTPServer

  /// Starts the thread; nothing is bound yet. Throws ``SystemError``.
  init(_ configuration: ZtunnelConfiguration, _ sources: AdminSources) throws(SystemError) {
    self.configuration = configuration
    self.sources = sources
    let loop = try EventLoop(name: "ztunnel-admin")
    try loop.start()
    self.loop = loop
    let questions = WorkerQuestions(workers: sources.workers, loop: loop)
    self.questions = questions
    let pages = AdminPages(configuration: configuration, sources: sources, questions: questions)
    admin = HTTPServer(on: loop) { await pages.answer($0) }
    statistics = HTTPServer(on: loop) { request in
      switch request.path {
      case "/metrics", "/stats/prometheus": await pages.metrics(request)
      default: HTTPResponse(status: 404)
      }
    }
    let readinessState = sources.readiness
    readiness = HTTPServer(on: loop) { request in
      request.path == "/healthz/ready" ? readinessState.answer(request) : HTTPResponse(status: 404)
    }
  }

  /// Listens; a port of 0 is none. Throws ``HTTPServerError``.
  func listen() throws(HTTPServerError) {
    let shared = configuration.sharesPorts
    if configuration.readinessPort != 0 {
      try readiness.listen(on: .everyAddress(port: configuration.readinessPort, sharesPort: shared))
    }
    if configuration.adminPort != 0 {
      try admin.listen(on: .address(SocketAddress(.loopback(.v4), configuration.adminPort), sharesPort: shared))
      // Where loopback has no IPv6 the other one is enough.
      _ = try? admin.listen(on: .address(SocketAddress(.loopback(.v6), configuration.adminPort), sharesPort: shared))
    }
    if configuration.statsPort != 0 {
      try statistics.listen(on: .everyAddress(port: configuration.statsPort, sharesPort: shared))
    }
  }

  /// Answers what is under way, and no more: another process has the ports, too. From another thread.
  func leavePorts() async {
    async let admin: Void = admin.stop(within: .seconds(1))
    async let statistics: Void = statistics.stop(within: .seconds(1))
    async let readiness: Void = readiness.stop(within: .seconds(1))
    _ = await (admin, statistics, readiness)
  }

  /// Answers what is under way and ends the thread. From another thread, once.
  func end() async {
    await leavePorts()
    loop.stop()
  }
}

/// What the servers show. Everything in it is safe to use from any thread.
struct AdminSources: Sendable {
  let workers: [WorkerHandle]
  let mesh: SharedMesh
  /// What the local file says; nil where there is none.
  let staticMesh: SharedMesh?
  let pods: SharedPods
  let certificates: CertificateStore
  let levels: LogLevels
  let logWriter: LogWriter
  let conditions: NodeConditions
  let metrics: ZtunnelMetrics
  let readiness: ReadinessState
  /// What the node agent says.
  let proofs: EnrolmentProofs
  let watchers = EventWatchers()
  /// Has the process replaced. Returns the id of the next one, and how many connections run on here.
  let upgrade: @Sendable () async throws(UpgradeError) -> (process: Int32, connections: Int)
  /// Begins the end of the process.
  let shutDown: @Sendable () -> Void
}
