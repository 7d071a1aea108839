import Foundation
import HTTPServer
import Linux
import Mesh
import Metrics
import Telemetry
import Testing
import Vocabulary

@testable import Ztunnel

@Suite("Admin")
struct AdminTests {
  private static let peer = HTTPPeer.address(SocketAddress(.loopback(.v4), 40000))

  private func body(_ response: HTTPResponse) -> String {
    if case .bytes(let bytes) = response.body { String(decoding: bytes, as: UTF8.self) } else { "" }
  }

  @Test("readiness names what is pending, sorted, until nothing is")
  func readiness() {
    let state = ReadinessState(pending: [ReadinessState.proxy, ReadinessState.pods, ReadinessState.mesh])
    let request = HTTPRequest(method: "GET", path: "/healthz/ready", peer: Self.peer)
    #expect(body(state.answer(request)) == "not ready, pending: proxy, state manager, workload proxy manager\n")
    for task in [ReadinessState.proxy, ReadinessState.pods, ReadinessState.mesh] { state.done(task) }
    #expect(state.answer(request).status == 200)
    #expect(body(state.answer(request)) == "ready\n")
    #expect(state.answer(HTTPRequest(method: "POST", path: "/healthz/ready", peer: Self.peer)).status == 405)
  }

  @Test("a pod that cannot be served is named and holds nobody else up; a drain is told")
  func troubledPod() {
    let state = ReadinessState(pending: [])
    let request = HTTPRequest(method: "GET", path: "/healthz/ready", peer: Self.peer)
    state.setTroubled(["shop/cart"])
    #expect(state.answer(request).status == 200)
    #expect(body(state.answer(request)).contains("shop/cart"))
    state.drain()
    #expect(state.answer(request).status == 500)
    #expect(body(state.answer(request)) == "not ready, draining\n")
  }

  @Test("the service manager's status says what port 15021 says, and what else is wrong")
  func summary() {
    let (away, here) = (NodeConditions.Values(), NodeConditions.Values(isAgentConnected: true))
    let state = ReadinessState(pending: [ReadinessState.pods])
    #expect(state.summary(away) == "not ready, pending: workload proxy manager")
    state.done(ReadinessState.pods)
    #expect(state.isReady)
    #expect(state.summary(here) == "ready")
    #expect(state.summary(away) == "ready; the node agent is away: pods are served, none can come or go")
    state.setTroubled(["shop/cart"])
    #expect(state.summary(here) == "ready; pods that cannot be served yet: shop/cart")
    state.drain()
    #expect(state.summary(here) == "draining")
  }

  @Test(
    "names of this machine are local, names of the net are not",
    arguments: [
      ("localhost", true), ("LocalHost:15000", true), ("127.0.0.1:1", true), ("[::1]:15000", true), ("[::1]", true),
      ("evil.example", false), ("localhost.evil.example:80", false), ("[evil]:80", false), ("", false),
    ])
  func localNames(_ host: String, _ isLocal: Bool) {
    #expect(AdminPages.isLocalName(host) == isLocal)
  }

  @Test("JSON has sorted keys, two spaces, and nothing that ends a string early")
  func json() throws {
    let value = JSONValue.object([
      "b": .array([.integer(1), .object([:])]), "a": .string("x\"\\\n\u{1}é"), "none": nil, "c": .array([]),
      "d": .null, "e": .boolean(true),
    ])
    let text = String(decoding: value.document, as: UTF8.self)
    #expect(text.hasPrefix("{\n  \"a\": \"x\\\"\\\\\\n\\u0001é\",\n  \"b\": [\n    1,\n    {}\n  ],\n  \"c\": [],\n"))
    #expect(try JSONSerialization.jsonObject(with: Data(value.document)) is [String: Any])
    let line = String(decoding: value.line, as: UTF8.self)
    #expect(!line.contains("\n"))
    #expect(try JSONSerialization.jsonObject(with: Data(value.line)) is [String: Any])
  }

  @Test("base64 is that of Foundation", arguments: 0...10)
  func base64(_ count: Int) {
    let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 97 &+ 250) }
    #expect(CertificateDump.base64(bytes) == Data(bytes).base64EncodedString())
  }

  @Test("a workload, a service and a policy have the keys that istioctl reads")
  func meshDump() throws {
    var record = Workload.Record(uid: "Kubernetes//Pod/shop/cart")
    record.name = "cart"
    record.namespace = "shop"
    record.addresses = [try #require(IPAddress("10.1.1.9"))]
    record.tunnelProtocol = .hbone
    record.waypoint = GatewayReference(
      .hostname(NamespacedHostname(namespace: "shop", hostname: "wp.shop")), port: 15008)
    let workload = try object(MeshDump.workload(Workload(record)))
    #expect(workload["workloadIps"] as? [String] == ["10.1.1.9"])
    #expect(workload["protocol"] as? String == "HBONE")
    #expect(workload["networkMode"] as? String == "Standard")
    #expect(workload["status"] as? String == "Healthy")
    #expect((workload["waypoint"] as? [String: Any])?["destination"] as? String == "shop/wp.shop")
    #expect(workload["capacity"] as? Int == 1)
    #expect(workload["locality"] == nil)

    var service = Service.Record(namespace: "shop", hostname: "cart.shop")
    service.addresses = [NetworkAddress(network: "", ip: try #require(IPAddress("10.96.3.4")))]
    service.ports = [80: 8080]
    let dumped = try object(MeshDump.service(Service(service), in: MeshSnapshot()))
    #expect(dumped["vips"] as? [String] == ["/10.96.3.4"])
    #expect(dumped["ports"] as? [String: Int] == ["80": 8080])
    #expect(dumped["endpoints"] is [String: Any])

    var match = AuthorizationPolicy.Match()
    match.principals = .init([.exact("a"), .presence], excluding: [.prefix("b")])
    match.destinationPorts = .init([8080])
    let policy = try object(
      MeshDump.policy(
        AuthorizationPolicy(
          name: "p", namespace: "shop", scope: .workloadSelector, action: .allow, rules: [.init([.init([match])])])))
    #expect(policy["scope"] as? String == "WorkloadSelector")
    #expect(policy["action"] as? String == "Allow")
    let rules = try #require(policy["rules"] as? [[[[String: Any]]]])
    #expect(rules[0][0][0]["destinationPorts"] as? [Int] == [8080])
    #expect((rules[0][0][0]["principals"] as? [[String: Any]])?[0]["Exact"] as? String == "a")
    #expect((rules[0][0][0]["notPrincipals"] as? [[String: Any]])?[0]["Prefix"] as? String == "b")
  }

  private func object(_ value: JSONValue) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(value.document)) as? [String: Any])
  }
}

@Suite("Traffic metrics")
struct TrafficMetricsTests {
  private let registry = MetricRegistry(prefix: "test")

  private func labels(_ name: String) -> TrafficLabels {
    var end = WorkloadLabels()
    end.workload = name
    return TrafficLabels(reporter: .source, source: end, destination: WorkloadLabels(), isMutualTLS: true)
  }

  private func text(_ metrics: TrafficMetrics, at now: ContinuousClock.Instant = .now) -> String {
    metrics.refresh(at: now)
    return String(decoding: registry.text(.openMetrics), as: UTF8.self)
  }

  @Test("workers' counts of the same labels are one series; every label is there, unknown ones by that word")
  func sums() {
    let metrics = TrafficMetrics(registry)
    let shards = [TrafficShard(metrics), TrafficShard(metrics)]
    for shard in shards {
      let series = shard.series(labels("web"))
      series.opened.addAlone(2)
      series.closed(.denied)
    }
    let text = text(metrics)
    let opened = text.split(separator: "\n").filter { $0.hasPrefix("istio_tcp_connections_opened_total{") }
    #expect(opened.count == 1)
    #expect(opened.first?.hasSuffix(" 4") == true)
    #expect(opened.first?.contains("source_principal=\"unknown\"") == true)
    #expect(opened.first?.split(separator: "=").count == 28)
    #expect(text.contains("response_flags=\"DENY\""))
    withExtendedLifetime(shards) {}
  }

  @Test("what a pod that has left has counted is shown for a while, and does not make sums shrink")
  func retirement() {
    let metrics = TrafficMetrics(registry, retention: .seconds(60))
    let staying = TrafficShard(metrics)
    staying.series(labels("both")).opened.addAlone(1)
    var leaving: TrafficShard? = TrafficShard(metrics)
    leaving?.series(labels("both")).opened.addAlone(5)
    leaving?.series(labels("alone")).opened.addAlone(7)
    leaving = nil
    #expect(text(metrics).contains("source_workload=\"alone\""))
    let later = text(metrics, at: .now + .seconds(120))
    #expect(!later.contains("source_workload=\"alone\""))
    #expect(later.split(separator: "\n").contains { $0.contains("\"both\"") && $0.hasSuffix(" 6") })
    withExtendedLifetime(staying) {}
  }

  @Test("too many label sets are one series, and counted; those of a pod that leaves make room")
  func overflow() {
    let metrics = TrafficMetrics(registry, limit: 3)
    var shard: TrafficShard? = TrafficShard(metrics)
    for index in 0..<10 { shard?.series(labels("w\(index)")).opened.addAlone() }
    let text = text(metrics)
    #expect(text.split(separator: "\n").contains { $0.contains("source_workload=\"overflow\"") && $0.hasSuffix(" 7") })
    #expect(text.contains("test_metrics_folded_total{metric=\"istio_tcp_connections_opened\"} 7"))
    shard = nil
    let claims = (0..<4).map { metrics.claimSeries(labels("next\($0)")) }
    #expect(claims == [true, true, true, false], "the series of everything that was too much gave no place back")
  }

  @Test("many pods and workers that count under the same labels take one place")
  func places() {
    let metrics = TrafficMetrics(registry, limit: 2)
    var shards = (0..<8).map { _ in TrafficShard(metrics) }
    for shard in shards { shard.series(labels("web")).opened.addAlone() }
    shards[0].series(labels("cart")).opened.addAlone()
    let lines = text(metrics).split(separator: "\n").filter { $0.hasPrefix("istio_tcp_connections_opened_total{") }
    #expect(lines.count == 2)
    #expect(lines.contains { $0.contains("\"web\"") && $0.hasSuffix(" 8") })
    #expect(!lines.contains { $0.contains("overflow") })
    // As long as one of them counts, the place is taken.
    shards.removeFirst(7)
    let claims = [metrics.claimSeries(labels("new")), metrics.claimSeries(labels("newer"))]
    #expect(claims == [true, false])
  }
}
