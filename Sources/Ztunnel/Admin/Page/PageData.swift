import HTTPServer
import Metrics
import TLS
import Vocabulary
import ZDS

/// Gathers what the page shows. Runs on the admin server's loop.
struct PageData: Sendable {
  let configuration: ZtunnelConfiguration
  let sources: AdminSources
  let questions: WorkerQuestions

  /// Time between two events; with many connections it is longer, as every look asks all workers for all of them.
  static func interval(connections: Int) -> Duration {
    connections > 2000 ? .seconds(3) : .seconds(1)
  }

  /// Log lines dropped within this time are a problem of now.
  private static let dropMemory = Duration.seconds(600)

  /// Every live connection of this node.
  func connections() async -> [ConnectionView.Row] {
    let names = Dictionary(sources.pods.all.map { ($0.uid, "\($0.info.namespace)/\($0.info.name)") }) { first, _ in
      first
    }
    var rows: [ConnectionView.Row] = []
    for part in await questions.ask({ await $0.connections() }) {
      for (uid, connections) in part {
        let pod = names[uid] ?? uid.description
        for connection in connections { rows.append(.init(pod: pod, connection: connection)) }
      }
    }
    return rows
  }

  /// The state of the node, with `rows` counted for their pods.
  func overview(_ rows: [ConnectionView.Row]) -> NodeOverview {
    let mesh = sources.mesh.snapshot
    let certificates = Dictionary(sources.certificates.statuses().map { ($0.identity, $0) }) { first, _ in first }
    let proofs = sources.proofs.latest
    var pods = sources.pods.all.map { pod in
      let workload = mesh.localWorkload(
        namespace: pod.info.namespace, name: pod.info.name, serviceAccount: pod.info.serviceAccount)
      return NodeOverview.Pod(
        uid: pod.uid.description, namespace: pod.info.namespace, name: pod.info.name,
        serviceAccount: pod.info.serviceAccount, isUp: pod.isUp, workload: workload,
        certificate: workload.flatMap { certificates[$0.identity] },
        proof: proofs["\(pod.info.namespace)/\(pod.info.name)"])
    }.sorted { ($0.namespace, $0.name) < ($1.namespace, $1.name) }
    let places = Dictionary(pods.enumerated().map { ("\($1.namespace)/\($1.name)", $0) }) { first, _ in first }
    for row in rows {
      guard let place = places[row.pod] else { continue }
      if row.connection.record.direction == .inbound { pods[place].inbound += 1 } else { pods[place].outbound += 1 }
      if row.connection.plaintext != nil { pods[place].plaintext += 1 }
      pods[place].bytesSent &+= row.connection.bytesSent
      pods[place].bytesReceived &+= row.connection.bytesReceived
    }
    let metrics = sources.metrics
    let allowed = Self.sums(metrics.policyAllowances.readings)
    let denied = Self.sums(metrics.policyDenials.readings)
    let dryRuns = Self.sums(metrics.policyDryRuns.readings)
    let policies = mesh.allPolicies.sorted { $0.key < $1.key }.map { policy in
      NodeOverview.Policy(
        source: policy, allowed: allowed[policy.key] ?? 0, denied: denied[policy.key] ?? 0,
        dryRun: dryRuns[policy.key] ?? 0)
    }
    let readiness = sources.readiness
    let log = sources.logWriter.counts
    return NodeOverview(
      version: ProductVersion.text, node: configuration.nodeName, now: .now, isReady: readiness.isReady,
      pending: readiness.pending, isDraining: readiness.isDraining,
      isConnected: configuration.discovery == nil ? nil : metrics.isControlPlaneConnected,
      workloads: mesh.workloadCount, services: mesh.serviceCount, pods: pods, policies: policies,
      deniedByNone: denied[WorkerMetrics.nobody] ?? 0,
      failures: metrics.connectionErrors.readings.reduce(0) { $0 &+ Self.integer($1.reading) },
      conditions: sources.conditions.current, droppedLogLines: log.dropped,
      isDroppingLogLines: log.latestDrop.map { .now - $0 < Self.dropMemory } ?? false)
  }

  /// By the first label, which is the policy.
  private static func sums(_ readings: [(labels: [String], reading: MetricReading)]) -> [String: Int64] {
    readings.reduce(into: [:]) { sums, entry in
      if let policy = entry.labels.first { sums[policy, default: 0] &+= integer(entry.reading) }
    }
  }

  private static func integer(_ reading: MetricReading) -> Int64 {
    if case .integer(let value) = reading { value } else { 0 }
  }

  // MARK: Answers

  /// `/status`: JSON, or one screen of text with `format=text`. 503 when something is wrong, so that `curl --fail` is a
  /// check.
  func status(_ request: HTTPRequest) async -> HTTPResponse {
    let overview = overview(await connections())
    let isText = request.query("format") == "text"
    return HTTPResponse(
      status: overview.problems.isEmpty ? 200 : 503,
      headers: ["content-type": isText ? "text/plain; charset=utf-8" : "application/json"],
      body: .bytes(isText ? Array(overview.text.utf8) : overview.json.document))
  }

  /// `/connections?search=…&plaintext=true&limit=…`: live connections as JSON.
  func list(_ request: HTTPRequest) async -> HTTPResponse {
    HTTPResponse(
      headers: ["content-type": "application/json", "cache-control": "no-store"],
      body: .bytes(Self.json(await connections(), ConnectionView(request)).document))
  }

  /// `/events`: the state and the connections, again and again, as server-sent events.
  func events(_ request: HTTPRequest) -> HTTPResponse {
    guard let watcher = sources.watchers.enter() else {
      return .text("\(EventWatchers.limit) pages are open already; close one\n", status: 503)
    }
    let view = ConnectionView(request)
    return HTTPResponse(
      headers: ["content-type": "text/event-stream", "cache-control": "no-store"],
      body: .endless { (writer) async throws(HTTPStreamEnded) in
        var progress = ConnectionView.Progress()
        while true {
          var rows = await connections()
          progress.measure(&rows)
          try await writer.write("event: state\ndata: ".utf8)
          try await writer.write(Self.state(overview(rows), rows, view).line)
          try await writer.write("\n\n".utf8)
          try await writer.flush()
          await questions.loop.sleep(for: Self.interval(connections: rows.count))
          // Counted as long as somebody listens.
          withExtendedLifetime(watcher) {}
        }
      })
  }

  /// What one event holds.
  static func state(_ overview: NodeOverview, _ rows: [ConnectionView.Row], _ view: ConnectionView) -> JSONValue {
    .object(["overview": overview.json, "connections": json(rows, view)])
  }

  private static func json(_ rows: [ConnectionView.Row], _ view: ConnectionView) -> JSONValue {
    let (shown, matching) = view.select(rows)
    return .object([
      "total": .integer(Int64(rows.count)), "matching": .integer(Int64(matching)),
      "plaintext": .integer(Int64(rows.count { $0.connection.plaintext != nil })),
      "sentRate": .integer(Int64(clamping: rows.reduce(0) { $0 &+ $1.sentRate })),
      "receivedRate": .integer(Int64(clamping: rows.reduce(0) { $0 &+ $1.receivedRate })),
      "connections": .array(shown.map(\.json)),
    ])
  }
}

extension ConnectionView {
  init(_ request: HTTPRequest) {
    self.init(
      search: request.query("search") ?? "", onlyPlaintext: request.query("plaintext") == "true",
      limit: request.query("limit").flatMap { Int($0) } ?? Self.defaultLimit)
  }
}
