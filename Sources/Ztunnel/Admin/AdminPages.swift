import HTTPServer
import Identity
import Linux
import Metrics
import Vocabulary
import ZDS

/// The answers of port 15000 (observability.md §5).
struct AdminPages: Sendable {
  let configuration: ZtunnelConfiguration
  let sources: AdminSources
  let questions: WorkerQuestions

  private var data: PageData { PageData(configuration: configuration, sources: sources, questions: questions) }

  func answer(_ request: HTTPRequest) async -> HTTPResponse {
    if let refusal = refusal(request) { return refusal }
    switch request.path {
    case "/": return NodePage.answer()
    case "/config_dump": return await configDump()
    case "/status": return await data.status(request)
    case "/connections": return await data.list(request)
    case "/events": return data.events(request)
    case "/explain": return ExplainEndpoint.answer(request, sources, configuration)
    case "/logging": return LoggingEndpoint.answer(request, sources.levels)
    case "/quitquitquit":
      guard request.method == "POST" else { return .methodNotAllowed(allow: "POST") }
      sources.shutDown()
      return .text("shutdown now\n")
    case "/upgrade":
      guard request.method == "POST" else { return .methodNotAllowed(allow: "POST") }
      return await upgrade()
    case "/version": return json(version)
    case "/debug/pprof/heap": return Profiling.heap()
    case "/debug/pprof/profile": return Profiling.processor()
    case "/debug/pprof/heap/profiling": return Profiling.activation(request)
    default: return HTTPResponse(status: 404)
    }
  }

  /// The port is for this machine's people, not for web pages that their browsers show: a page that has its own name
  /// point here (DNS rebinding), or that sends a form here, is turned away.
  private func refusal(_ request: HTTPRequest) -> HTTPResponse? {
    let host = request.headers["host"] ?? "localhost"
    guard Self.isLocalName(host) else { return .text("not a name of this server\n", status: 403) }
    guard request.method == "GET" || request.method == "HEAD" else {
      guard let origin = request.headers["origin"] else { return nil }
      return origin == "http://\(host)" ? nil : .text("not for other sites\n", status: 403)
    }
    return nil
  }

  /// True for `localhost` and for addresses, with or without port.
  static func isLocalName(_ host: String) -> Bool {
    if let end = host.lastIndex(of: "]"), host.hasPrefix("[") {
      return IPAddress(host[host.index(after: host.startIndex)..<end]) != nil
    }
    let name = host.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).first ?? ""
    return name.lowercased() == "localhost" || IPAddress(name) != nil
  }

  // MARK: Pages

  private func json(_ value: JSONValue) -> HTTPResponse {
    HTTPResponse(headers: ["content-type": "application/json"], body: .bytes(value.document))
  }

  private func upgrade() async -> HTTPResponse {
    do throws(UpgradeError) {
      let (process, connections) = try await sources.upgrade()
      return json(.object(["successor": .integer(Int64(process)), "openConnections": .integer(Int64(connections))]))
    } catch {
      return .text("\(error)\n", status: error == .underWay || error == .notServing ? 409 : 500)
    }
  }

  private var version: JSONValue {
    .object([
      "version": .string(ProductVersion.text), "gitRevision": .string(ProductVersion.revision),
      "rustVersion": "", "buildStatus": "",
      "buildProfile": .string(ProductVersion.profile), "istioVersion": .string(configuration.istioVersion),
      "cryptoProvider": "openssl",
    ])
  }

  private func configDump() async -> HTTPResponse {
    var connections: [WorkloadUID: [ConnectionSnapshot]] = [:]
    for part in await questions.ask({ await $0.connections() }) { connections.merge(part) { $0 + $1 } }
    let dump = ConfigDump(
      mesh: sources.mesh.snapshot, staticMesh: sources.staticMesh?.snapshot,
      certificates: sources.certificates.statuses(), pods: sources.pods.all,
      connections: connections, configuration: configuration, version: version)
    return HTTPResponse(
      headers: ["content-type": "application/json"],
      body: .stream { (writer) async throws(HTTPStreamEnded) in try await dump.write(to: writer) })
  }

  // MARK: Metrics

  /// The answer of the statistics port.
  func metrics(_ request: HTTPRequest) async -> HTTPResponse {
    sources.metrics.refresh(await questions.ask { await $0.report() })
    let format = MetricFormat(accept: request.headers.list("accept"))
    let pieces = sources.metrics.registry.pieces(format)
    return HTTPResponse(
      headers: ["content-type": format.contentType],
      body: .stream { (writer) async throws(HTTPStreamEnded) in
        for piece in pieces { try await writer.write(piece) }
      })
  }
}
