import Foundation
import HTTPServer
import Linux
import Mesh
import Telemetry
import Testing
import Vocabulary

@testable import Ztunnel

@Suite("Explaining offline")
struct ExplainRunTests {
  private let directory = FileManager.default.temporaryDirectory.appending(path: "explain-\(UUID().uuidString)")

  /// Writes files, and removes them after `body`, which gets their paths.
  private func files(_ contents: [String: String], _ body: ([String: String]) throws -> Void) throws {
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    var paths: [String: String] = [:]
    for (name, content) in contents {
      let path = directory.appending(path: name).path
      try Data(content.utf8).write(to: URL(fileURLWithPath: path))
      paths[name] = path
    }
    try body(paths)
  }

  private static let dump = #"""
    {"config": {"network": "", "localNode": "n1"}, "certificates": [{"identity": "not read"}],
     "workloadState": {"uid": {"state": "Up", "info": {"name": "web", "namespace": "shop", "serviceAccount": "web"}}},
     "policies": [], "services": [{"name": "cart", "namespace": "shop", "hostname": "cart.shop.svc.cluster.local",
       "vips": ["/10.96.0.1"], "ports": {"80": 8080}, "canonical": true, "visibility": "Public", "subjectAltNames": [],
       "endpoints": {"c": {"workloadUid": "c", "port": {"80": 8080}, "status": "Healthy"}}}],
     "workloads": [{"uid": "w", "name": "web", "namespace": "shop", "serviceAccount": "web", "workloadIps": ["10.0.0.1"],
       "protocol": "HBONE", "node": "n1"},
      {"uid": "c", "name": "cart", "namespace": "shop", "serviceAccount": "cart", "workloadIps": ["10.0.0.2"],
       "protocol": "HBONE", "node": "n2", "canonicalName": "cart", "services": ["shop/cart.shop.svc.cluster.local"]}]}
    """#
  private static let policy = """
    apiVersion: security.istio.io/v1
    kind: AuthorizationPolicy
    metadata: {name: closed, namespace: shop}
    spec: {action: DENY, selector: {matchLabels: {app: cart}}, rules: [{to: [{operation: {ports: ["8080"]}}]}]}
    """

  private func question(_ to: String) throws -> ConnectionQuestion {
    try #require(ConnectionQuestion(from: "shop/web", to: to))
  }

  @Test("a dump answers by itself")
  func dumpAlone() throws {
    try files(["dump.json": Self.dump]) { paths in
      let run = ExplainRun(question: try question("cart:80"), dump: paths["dump.json"])
      let answer = try run.answer(json: false)
      #expect(answer.status == 0)
      #expect(answer.text.hasPrefix("ALLOWED, ENCRYPTED: shop/web → cart:80\n"))
      let object = try JSONSerialization.jsonObject(with: Data(try run.answer(json: true).text.utf8)) as? [String: Any]
      #expect(object?["exitStatus"] as? Int == 0)
      #expect((object?["decisions"] as? [[String: Any]])?.contains { $0["topic"] as? String == "presented" } == true)
    }
  }

  @Test("a policy is tried before it is applied: before and after, and the status of after")
  func change() throws {
    try files(["dump.json": Self.dump, "p.yaml": Self.policy]) { paths in
      let run = ExplainRun(
        question: try question("cart:80"), dump: paths["dump.json"], policyFiles: [try #require(paths["p.yaml"])])
      let answer = try run.answer(json: false)
      #expect(answer.status == 1)
      #expect(answer.text.hasPrefix("allowed, encrypted  →  denied\n"))
      #expect(answer.text.contains("shop/closed DENY selects this workload; rule 1 holds: ports 8080"))
      let object = try JSONSerialization.jsonObject(with: Data(try run.answer(json: true).text.utf8)) as? [String: Any]
      #expect(object?["changes"] as? Bool == true)
      let other = ExplainRun(
        question: try question("10.0.0.2:9090"), dump: paths["dump.json"], policyFiles: [try #require(paths["p.yaml"])])
      #expect(try other.answer(json: false).text.hasPrefix("no change: allowed, encrypted\n"))
    }
  }

  @Test(
    "what is no dump is refused",
    arguments: [
      ("", "DUMP_NOT_JSON"), ("[]", "DUMP_NOT_JSON"), ("{}", "DUMP_NOT_A_DUMP"), ("{\"workloads\": [", "DUMP_NOT_JSON"),
      ("{\"workloads\": 1}", "MESH_FILE_INVALID"),
    ])
  func noDump(_ text: String, _ code: String) {
    let error = #expect(throws: DumpedMesh.Failure.self) { try DumpedMesh(Array(text.utf8), source: "x") }
    #expect(error?.code == code, "\(String(describing: error))")
  }

  @Test("a file that is not there is named")
  func missingFile() throws {
    let run = ExplainRun(question: try question("cart:80"), dump: "/nonexistent/dump.json")
    let error = #expect(throws: FileBytes.Failure.self) { try run.answer(json: false) }
    #expect(error?.description.contains("/nonexistent/dump.json") == true)
  }
}

@Suite("Asking the admin server")
struct AdminQueryTests {
  @Test(
    "only whole answers are taken",
    arguments: [
      ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab", 200), ("HTTP/1.0 503 x\r\n\r\nab", 503),
      ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", nil), ("HTTP/1.1 200 OK\r\n", nil), ("SSH-2.0\r\n\r\n", nil),
      ("HTTP/1.1 200 OK\r\nnothing\r\n\r\n", nil),
      ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", nil),
      ("", nil), ("HTTP/1.1 two\r\n\r\n", nil),
    ] as [(String, Int?)])
  func parsing(_ text: String, _ status: Int?) {
    #expect(AdminQuery.parse(Array(text.utf8))?.status == status)
  }

  @Test("values of a query are escaped")
  func escaping() {
    #expect(AdminQuery.escaped("a/b:80 &?é-._~") == "a%2Fb%3A80%20%26%3F%C3%A9-._~")
  }

  @Test("a server's answer arrives, streamed ones too, and refusals are errors")
  func exchange() async throws {
    let loop = try EventLoop(name: "query-test")
    try loop.start()
    defer {
      loop.stop()
      loop.join()
    }
    let server = HTTPServer(on: loop) { request in
      guard request.path == "/long" else { return .text("no \(request.query("from") ?? "")", status: 404) }
      return HTTPResponse(
        body: .stream { (writer) async throws(HTTPStreamEnded) in
          for _ in 0..<100 { try await writer.write([UInt8](repeating: 0x61, count: 10_000)) }
        })
    }
    let address = try #require(try server.listen(on: .address(SocketAddress(.loopback(.v4), 0))))
    let query = try AdminQuery(address: "\(address)")
    #expect(try query.get("/long").body.count == 1_000_000)
    let error = #expect(throws: AdminQuery.Failure.self) { try query.get("/", query: [("from", "a&b")]) }
    #expect(error == .refused(address, status: 404, text: "no a&b"))
    await server.stop(within: .seconds(1))
    let gone = #expect(throws: AdminQuery.Failure.self) { try query.get("/") }
    #expect(gone?.code == "ADMIN_NOT_REACHABLE")
    #expect(throws: AdminQuery.Failure.badAddress("x")) { try AdminQuery(address: "x") }
  }
}

@Suite("Overview of a node")
struct NodeOverviewTests {
  private func overview(
    pods: [NodeOverview.Pod] = [], isReady: Bool = true, isConnected: Bool? = true
  ) -> NodeOverview {
    NodeOverview(
      version: "1", node: "node-a", now: .now, isReady: isReady, pending: isReady ? [] : ["proxy"], isDraining: false,
      isConnected: isConnected, workloads: 1, services: 2, pods: pods, policies: [], deniedByNone: 0, failures: 3)
  }

  private func pod(isUp: Bool = true, isKnown: Bool = true, proof: String? = nil) -> NodeOverview.Pod {
    NodeOverview.Pod(
      uid: "u", namespace: "shop", name: "web", serviceAccount: "web", isUp: isUp,
      workload: isKnown ? Workload(Workload.Record(uid: "u")) : nil,
      proof: proof.map {
        EnrolmentProofView(state: $0, since: "", lastProven: nil, escapedPackets: nil, deviations: ["nat: gone"])
      })
  }

  @Test("nothing wrong is said in one word")
  func well() {
    let overview = overview(pods: [pod(proof: "PROVEN")])
    #expect(overview.problems.isEmpty)
    #expect(overview.text.hasPrefix("ztunnel 1 on node-a  OK\n"))
    #expect(overview.text.contains("shop/web  served"))
  }

  @Test("every thing that is wrong is named, with the pod")
  func problems() {
    #expect(overview(isReady: false).problems == ["not ready, pending: proxy"])
    #expect(overview(isConnected: false).problems.first?.contains("control plane") == true)
    #expect(overview(isConnected: nil).problems.isEmpty)
    #expect(overview(pods: [pod(isUp: false)]).problems.first?.contains("shop/web cannot be served") == true)
    #expect(overview(pods: [pod(isKnown: false)]).problems.first?.contains("not known to the mesh") == true)
    let fenced = overview(pods: [pod(proof: "FENCED")])
    #expect(fenced.problems == ["shop/web is FENCED by its node agent: nat: gone"])
    #expect(fenced.text.contains("LOOK: 1 problem\n"))
  }

  @Test("a lost node agent, a refused mesh file, a full descriptor store and dropped log lines are problems")
  func conditions() {
    var overview = overview()
    overview.conditions.isAgentConnected = false
    overview.conditions.meshFileError = "line 3: no such member"
    overview.conditions.podsNotStored = 2
    overview.droppedLogLines = 7
    overview.isDroppingLogLines = true
    let problems = overview.problems
    #expect(problems.count == 4)
    for text in ["node agent", "line 3: no such member", "descriptor store is full", "dropped, 7 so far"] {
      #expect(problems.contains { $0.contains(text) }, "\(text)")
    }
    overview.isDroppingLogLines = false
    #expect(overview.problems.count == 3, "lines that were dropped long ago are no problem of now")
  }

  @Test("many pods stay on a screen, and JSON has them all")
  func many() throws {
    let overview = overview(pods: (0..<300).map { _ in pod(isUp: false) })
    #expect(overview.text.split(separator: "\n").count < 75)
    let object = try JSONSerialization.jsonObject(with: Data(overview.json.document)) as? [String: Any]
    #expect((object?["pods"] as? [Any])?.count == 300)
  }

  @Test("what a node agent says of its proofs is taken, and nothing else")
  func proofs() throws {
    let text = #"""
      {"workloads": [{"namespace": "shop", "name": "web", "state": "FENCED", "since": "t", "lastProven": null,
        "deviations": ["a"], "escapedPackets": 2, "stoppedPackets": 3}, {"name": "nameless"}, 7]}
      """#
    let proofs = EnrolmentProofs.proofs(in: try .parse(Array(text.utf8)))
    #expect(proofs.keys.sorted() == ["shop/web"])
    #expect(proofs["shop/web"]?.escapedPackets == 2)
    #expect(proofs["shop/web"]?.stoppedPackets == 3)
    #expect(proofs["shop/web"]?.isAsWanted == false)
    #expect(EnrolmentProofs.proofs(in: .null).isEmpty)
  }
}

@Suite("The page's answer")
struct NodePageTests {
  @Test("a bounded number of pages is watched, and one that closes makes room")
  func watchers() {
    let watchers = EventWatchers()
    var open = (0..<EventWatchers.limit).map { _ in watchers.enter() }
    #expect(open.allSatisfy { $0 != nil })
    #expect(watchers.enter() == nil)
    open.removeLast()
    #expect(watchers.enter() != nil)
  }

  @Test("rates are what moved between two looks; the busiest come first, and what is asked for is found")
  func rates() throws {
    let address = SocketAddress(.loopback(.v4), 1)
    func row(_ id: Int, _ name: String, sent: UInt64) -> ConnectionView.Row {
      ConnectionView.Row(
        pod: "shop/\(name)",
        connection: ConnectionSnapshot(
          id: id,
          record: AccessLogRecord(
            source: .init(address: address, workload: name), destination: .init(address: address), direction: .outbound),
          carriage: .tcp, plaintext: id == 1 ? .unknownDestination : nil, original: nil, actual: address,
          isEstablished: true, allowedBy: nil, bytesSent: sent, bytesReceived: 0, age: .seconds(id)))
    }
    var progress = ConnectionView.Progress()
    let start = ContinuousClock.now
    var rows = [row(1, "web", sent: 1000), row(2, "cart", sent: 1000)]
    progress.measure(&rows, at: start)
    #expect(rows.allSatisfy { $0.rate == 0 }, "nothing is known before the second look")
    rows = [row(1, "web", sent: 1500), row(2, "cart", sent: 5000), row(3, "new", sent: 600)]
    progress.measure(&rows, at: start + .seconds(2))
    #expect(rows.map(\.sentRate) == [250, 2000, 300])
    #expect(ConnectionView().select(rows).rows.map(\.connection.id) == [2, 3, 1])
    #expect(ConnectionView(limit: 1).select(rows).rows.map(\.connection.id) == [2])
    #expect(ConnectionView(limit: 1).select(rows).matching == 3)
    #expect(ConnectionView(search: "WEB").select(rows).rows.map(\.connection.id) == [1])
    #expect(ConnectionView(onlyPlaintext: true).select(rows).rows.map(\.connection.id) == [1])
    rows = [row(1, "web", sent: 100)]
    progress.measure(&rows, at: start + .seconds(3))
    #expect(rows[0].sentRate == 100, "fewer bytes than before are those of another connection")
  }

  @Test("allows its own script and style by a nonce that is another one each time, and nothing else")
  func policy() throws {
    func nonce(_ response: HTTPResponse) throws -> String {
      let policy = try #require(response.headers["content-security-policy"])
      #expect(policy.hasPrefix("default-src 'none'; script-src 'nonce-"))
      #expect(!policy.contains("unsafe"))
      return String(try #require(policy.split(separator: "'nonce-").dropFirst().first?.split(separator: "'").first))
    }
    let first = NodePage.answer()
    let second = NodePage.answer()
    #expect(try nonce(first) != nonce(second))
    guard case .bytes(let bytes) = first.body else { return #expect(Bool(false), "the page is not streamed") }
    let text = String(decoding: bytes, as: UTF8.self)
    #expect(text.components(separatedBy: "nonce=\"\(try nonce(first))\"").count == 3)
    #expect(!text.contains(NodePage.placeholder))
    for forbidden in [
      "innerHTML", "insertAdjacentHTML", "document.write", "http://", "https://", " onclick", " style=\"",
    ] {
      #expect(!text.contains(forbidden), "\(forbidden)")
    }
  }
}
