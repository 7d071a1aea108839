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

  /// Paths and what is there, for the list at `/`.
  private static let endpoints = [
    ("/config_dump", "the mesh, certificates, pods and configuration as JSON: what istioctl ztunnel-config reads"),
    ("/connections", "live connections as JSON"),
    ("/events", "live connections as server-sent events, one a second"),
    ("/logging", "POST: levels of the log, per target"),
    ("/quitquitquit", "POST: end gracefully"),
    ("/version", "the version as JSON"),
    ("/debug/pprof/heap", "the heap, as the C library sees it"),
    ("/debug/pprof/profile", "how to sample the processor"),
  ]

  func answer(_ request: HTTPRequest) async -> HTTPResponse {
    if let refusal = refusal(request) { return refusal }
    switch request.path {
    case "/": return index()
    case "/config_dump": return await configDump()
    case "/connections": return await connections()
    case "/events": return events()
    case "/logging": return LoggingEndpoint.answer(request, sources.levels)
    case "/quitquitquit":
      guard request.method == "POST" else { return .methodNotAllowed(allow: "POST") }
      sources.shutDown()
      return .text("shutdown now\n")
    case "/version": return json(version)
    case "/debug/pprof/heap": return Profiling.heap()
    case "/debug/pprof/profile": return Profiling.processor()
    case "/debug/pprof/heap/profiling":
      return .text("the heap is not sampled; /debug/pprof/heap needs no activation\n", status: 501)
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

  private func index() -> HTTPResponse {
    let rows = Self.endpoints.map { "<li><a href=\"\($0.0)\">\($0.0)</a> \($0.1)</li>" }.joined(separator: "\n")
    let page = """
      <!DOCTYPE html>
      <html lang="en"><head><meta charset="utf-8"><title>ztunnel</title>
      <meta name="viewport" content="width=device-width"></head>
      <body><h1>ztunnel \(ProductVersion.text)</h1>
      <ul>
      \(rows)
      </ul></body></html>

      """
    return HTTPResponse(headers: ["content-type": "text/html; charset=utf-8"], body: .bytes(Array(page.utf8)))
  }

  private func json(_ value: JSONValue) -> HTTPResponse {
    HTTPResponse(headers: ["content-type": "application/json"], body: .bytes(value.document))
  }

  private var version: JSONValue {
    .object([
      "version": .string(ProductVersion.text), "gitRevision": "", "rustVersion": "", "buildStatus": "",
      "buildProfile": .string(Self.profile), "istioVersion": .string(configuration.istioVersion),
      "cryptoProvider": "openssl",
    ])
  }

  private static var profile: String {
    #if DEBUG
      "debug"
    #else
      "release"
    #endif
  }

  private func configDump() async -> HTTPResponse {
    var connections: [WorkloadUID: [ConnectionSnapshot]] = [:]
    for part in await questions.ask({ await $0.connections() }) { connections.merge(part) { $0 + $1 } }
    let dump = ConfigDump(
      mesh: sources.mesh.snapshot, certificates: sources.certificates.statuses(), pods: sources.pods.all,
      connections: connections, configuration: configuration, version: version)
    return HTTPResponse(
      headers: ["content-type": "application/json"],
      body: .stream { (writer) async throws(HTTPStreamEnded) in try await dump.write(to: writer) })
  }

  /// Every live connection of this node, by pod and age.
  private func connectionList() async -> JSONValue {
    let names = Dictionary(sources.pods.all.map { ($0.uid, "\($0.info.namespace)/\($0.info.name)") }) { first, _ in
      first
    }
    var all: [(pod: String, connection: ConnectionSnapshot)] = []
    for part in await questions.ask({ await $0.connections() }) {
      for (uid, connections) in part {
        for connection in connections { all.append((names[uid] ?? uid.description, connection)) }
      }
    }
    all.sort { ($0.pod, $1.connection.age) < ($1.pod, $0.connection.age) }
    return .object(["connections": .array(all.map { $0.connection.details(of: $0.pod) })])
  }

  private func connections() async -> HTTPResponse { json(await connectionList()) }

  private func events() -> HTTPResponse {
    HTTPResponse(
      headers: ["content-type": "text/event-stream", "cache-control": "no-store"],
      body: .endless { (writer) async throws(HTTPStreamEnded) in
        while true {
          try await writer.write("event: connections\ndata: ".utf8)
          try await writer.write(await connectionList().line)
          try await writer.write("\n\n".utf8)
          try await writer.flush()
          await questions.loop.sleep(for: .seconds(1))
        }
      })
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
