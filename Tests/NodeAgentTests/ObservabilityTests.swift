import HTTPServer
import Metrics
import Testing
import Vocabulary
import ZDS

@testable import NodeAgent

@Suite("Node agent: metrics and readiness")
struct ObservabilityTests {
  private func request(_ path: String) -> HTTPRequest {
    HTTPRequest(method: "GET", path: path, peer: .address(SocketAddress(.loopback(.v4), 1)))
  }

  @Test("readiness waits for every task, and ends with the process; health does not")
  func readiness() {
    let readiness = AgentReadiness()
    readiness.require("b")
    readiness.require("a")
    #expect(readiness.answer(request("/readyz")).status == 503)
    guard case .bytes(let bytes) = readiness.answer(request("/readyz")).body else { return }
    #expect(String(decoding: bytes, as: UTF8.self) == "not ready, pending: a, b\n")
    readiness.done("a")
    readiness.done("b")
    #expect(readiness.answer(request("/readyz")).status == 200)
    readiness.stop()
    #expect(readiness.answer(request("/readyz")).status == 503)
    #expect(readiness.answer(request("/healthz")).status == 200)
    #expect(readiness.answer(request("/")).status == 404)
  }

  @Test("states of workloads and ztunnels are counted")
  func counts() {
    let metrics = AgentMetrics(version: "1")
    metrics.set([.announced, .announced, .outside])
    metrics.count(.live(1))
    metrics.count(.live(2))
    metrics.count(.closed(1, .closedByPeer))
    let text = String(decoding: metrics.registry.text(.openMetrics), as: UTF8.self)
    #expect(text.contains("node_agent_workloads{state=\"announced\"} 2\n"))
    #expect(text.contains("node_agent_workloads{state=\"failed\"} 0\n"))
    #expect(text.contains("\nztunnel_connected 1\n"))
    #expect(text.contains("node_agent_ztunnel_events_total{event=\"closed\"} 1\n"))
    #expect(text.contains("istio_build{component=\"cni\",tag=\"1\"} 1\n"))
  }

  @Test("ports are read, and may be none")
  func ports() throws {
    let configuration = try NodeAgentConfiguration(environment: [
      "MONITORING_PORT": "-1", "AMBIENT_HEALTH_PORT": "8001",
    ])
    #expect(configuration.monitoringPort == 0)
    #expect(configuration.healthPort == 8001)
    #expect(throws: ConfigurationError.self) { try NodeAgentConfiguration(environment: ["MONITORING_PORT": "70000"]) }
  }
}
