import Foundation
import HTTPServer
import Linux
import Metrics
import Synchronization
import TestSupport
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

  @Test(
    "the metrics of Istio's agent are there by their names, and our own",
    arguments: [
      "istio_cni_installs_total{result=\"SUCCESS\"} 1", "istio_cni_install_ready 1",
      "istio_cni_plugin_requests_total{response_code=\"200\"} 1",
      "istio_cni_repair_pods_repaired_total{type=\"label\",result=\"success\"} 1",
      "nodeagent_reconcile_events_total{type=\"add\"} 1", "ztunnel_connected 0",
      "node_agent_fences_total{reason=\"deviation\"} 1", "node_agent_pod_capture_seconds_bucket{le=\"0.25\"} 1",
    ])
  func names(line: String) {
    let metrics = AgentMetrics(version: "1")
    metrics.installs("SUCCESS").add()
    metrics.installReady().set(1)
    metrics.pluginRequests("200").add()
    metrics.repairedPods("label", "success").add()
    metrics.reconcileEvents("add").add()
    metrics.fences(FenceReason.deviation.rawValue).add()
    metrics.podCapture.observe(.milliseconds(200))
    let lines = String(decoding: metrics.registry.text(.openMetrics), as: UTF8.self).split(separator: "\n")
    #expect(lines.contains { $0 == line })
  }

  @Test("a loop that does not turn, and threads that are all stuck, end the health and nothing else")
  func health() throws {
    let threads = BlockingThreads(limit: 1)
    let heartbeat = Heartbeat(threads)
    let now = ContinuousClock.now
    heartbeat.beat(at: now)
    #expect(heartbeat.trouble(at: now + .seconds(29)) == nil)
    let silence = try #require(heartbeat.trouble(at: now + .seconds(31)))
    let readiness = AgentReadiness()
    #expect(readiness.answer(request("/healthz"), trouble: silence).status == 503)
    #expect(readiness.answer(request("/readyz"), trouble: silence).status == 200)

    let gate = Mutex(false)
    let open: @Sendable () -> Void = { while !gate.withLock({ $0 }) { usleep(1000) } }
    threads.submit(open, orRefuse: {})
    threads.submit(open, orRefuse: {})
    #expect(eventually { threads.stall() != nil })
    let later = ContinuousClock.now + .seconds(100)
    heartbeat.beat(at: later)
    #expect(heartbeat.trouble(at: later)?.contains("threads") == true)
    gate.withLock { $0 = true }
    #expect(eventually { threads.stall() == nil })
    #expect(heartbeat.trouble(at: later) == nil)
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
