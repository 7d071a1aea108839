import HTTPServer
import Mesh

/// `GET /explain?from=NAMESPACE/POD&to=HOST:PORT`: what would become of a connection, decided by the mesh in force.
///
/// JSON for who accepts `application/json` or adds `format=json`, else text. The header `x-outcome` has the outcome.
enum ExplainEndpoint {
  static let outcomeHeader = "x-outcome"

  static func answer(_ request: HTTPRequest, _ sources: AdminSources, _ configuration: ZtunnelConfiguration)
    -> HTTPResponse
  {
    guard request.method == "GET" || request.method == "HEAD" else { return .methodNotAllowed(allow: "GET, HEAD") }
    guard let question = ConnectionQuestion(from: request.query("from") ?? "", to: request.query("to") ?? "") else {
      return .text("usage: /explain?from=NAMESPACE/POD&to=HOST:PORT, or &to=NAMESPACE/POD:PORT\n", status: 400)
    }
    let explanation = sources.mesh.snapshot.explain(
      question, served: ServedPods(sources.pods.all, node: configuration.nodeName),
      clusterDomain: configuration.meshResolver.clusterDomain)
    let isJSON = request.query("format") == "json" || request.headers.list("accept").contains("application/json")
    return HTTPResponse(
      headers: [
        "content-type": isJSON ? "application/json" : "text/plain; charset=utf-8",
        outcomeHeader: explanation.outcome.rawValue,
      ], body: .bytes(isJSON ? explanation.json.document : Array(explanation.text.utf8)))
  }
}

extension ServedPods {
  init(_ pods: [ConfigDump.Pod], node: String?) {
    self.init(
      pods: Dictionary(
        pods.map { (Name(namespace: $0.info.namespace, name: $0.info.name), $0.isUp) }, uniquingKeysWith: { $0 || $1 }),
      node: node)
  }
}

extension Explanation {
  var json: JSONValue {
    .object([
      "question": .string(question),
      "outcome": .string(outcome.rawValue),
      "exitStatus": .integer(Int64(outcome.exitStatus)),
      "decisions": .array(
        lines.map { line in
          .object([
            "topic": .string(line.topic.rawValue), "mark": .string(line.mark.name), "text": .string(line.text),
            "source": line.source.map { .string($0) },
          ])
        }),
      "check": .strings(checks),
    ])
  }
}

extension Explanation.Line.Mark {
  var name: String {
    switch self {
    case .good: "good"
    case .bad: "bad"
    case .warning: "warning"
    case .neutral: "neutral"
    }
  }
}
