import CNI
import Foundation
import JSON
import Linux
import Logging
import TestSupport
import Testing

@testable import NodeAgent

/// Decides as a test wants. Used on the loop only.
private final class ScriptedAdmission: PodAdmission, @unchecked Sendable {
  let decide: (PodSandbox) async throws(PodAdmissionError) -> PodAdmissionOutcome
  var asked: [PodSandbox] = []
  var told: [PodSandbox] = []
  var atOnce = 0
  var mostAtOnce = 0

  init(_ decide: @escaping (PodSandbox) async throws(PodAdmissionError) -> PodAdmissionOutcome) {
    self.decide = decide
  }

  func admit(
    _ sandbox: PodSandbox, until deadline: ContinuousClock.Instant
  ) async throws(PodAdmissionError) -> PodAdmissionOutcome {
    asked.append(sandbox)
    atOnce += 1
    mostAtOnce = max(atOnce, mostAtOnce)
    defer { atOnce -= 1 }
    return try await decide(sandbox)
  }

  func prove(
    _ sandbox: PodSandbox, until deadline: ContinuousClock.Instant
  ) async throws(PodAdmissionError) -> PodAdmissionOutcome { try await decide(sandbox) }

  func removed(_ sandbox: PodSandbox) async { told.append(sandbox) }
}

/// The plugin's program against the agent's endpoint.
@Suite(
  "The CNI endpoint",
  .requires(.root, .init(BuiltProduct.path("ambient-cni") != nil, otherwise: "ambient-cni is not built")))
final class CNIEndpointTests {
  private let node: NodeDirectories
  private let loop: EventLoop
  nonisolated(unsafe) private var endpoint: CNIEndpoint?

  init() throws {
    node = try NodeDirectories()
    loop = try EventLoop(name: "endpoint")
    try loop.start()
  }

  deinit {
    loop.stop()
    loop.join()
    endpoint = nil
  }

  private func serve(
    users: Set<UInt32> = [0], metrics: AgentMetrics? = nil, _ admission: ScriptedAdmission
  ) async throws {
    let path = try node.settings().socketPath
    let made: Result<Void, any Error> = await withCheckedContinuation { continuation in
      loop.spawn { [self] in
        do {
          endpoint = try CNIEndpoint(
            path: path, admission: admission, users: users, logger: Logger(label: "endpoint"), metrics: metrics,
            on: loop)
          continuation.resume(returning: .success(()))
        } catch { continuation.resume(returning: .failure(error)) }
      }
    }
    try made.get()
  }

  private func plugin(_ command: String, pod: String = "web-1", timeout: Int = 30) throws -> RunningProcess {
    var entry = PluginEntry(runDirectory: "\(node.root)/run", timeout: timeout).json
    entry["cniVersion"] = "1.0.0"
    entry["prevResult"] = ["cniVersion": "1.0.0", "ips": [["address": "10.1.2.3/24"]]]
    return try RunningProcess(
      [try #require(BuiltProduct.path("ambient-cni"))], input: JSONValue.object(entry).text,
      environment: [
        "CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
        "CNI_NETNS": "/var/run/netns/none",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=\(pod);K8S_POD_UID=u-\(pod)",
      ])
  }

  private func post(_ path: String, _ body: String, method: String = "POST") throws -> String {
    try Command.mustRun(
      [
        "curl", "--silent", "--max-time", "20", "--unix-socket", "\(node.root)/run/pluginevent.sock", "-X", method,
        "-d", body, "-w", "\n%{http_code}", "http://unix\(path)",
      ], timeout: .seconds(30))
  }

  @Test("a pod starts when it is captured, and the source of pods was told all about it")
  func captured() async throws {
    let admission = ScriptedAdmission { _ in .captured }
    try await serve(admission)
    let process = try plugin("ADD")
    #expect(process.waitForExit(within: .seconds(30)) == 0)
    #expect(process.output.contains("10.1.2.3/24"))
    let asked = await withCheckedContinuation { continuation in
      loop.spawn { continuation.resume(returning: admission.asked) }
    }
    #expect(
      asked == [
        PodSandbox(
          namespace: "shop", name: "web-1", uid: "u-web-1", containerID: "c1", networkNamespace: "/var/run/netns/none",
          addresses: [try #require(.init("10.1.2.3"))])
      ])
  }

  @Test("a pod that is refused does not start, and its event says why")
  func refused() async throws {
    try await serve(ScriptedAdmission { _ throws(PodAdmissionError) in throw .enrolment(.announcement(.notConnected)) })
    let process = try plugin("ADD")
    #expect(process.waitForExit(within: .seconds(30)) == 1)
    let error = try JSONValue.parse(Array(process.output.utf8))
    #expect(error["code"] == 100)
    #expect(error["msg"]?.string?.contains("shop/web-1") == true)
    #expect(error["msg"]?.string?.contains("ztunnel") == true)
  }

  @Test("the reason comes before the plugin gives up, whatever takes so long")
  func deadline() async throws {
    let loop = loop
    try await serve(
      ScriptedAdmission { _ in
        await loop.sleep(for: .seconds(60))
        return .captured
      })
    let process = try plugin("ADD", timeout: 2)
    #expect(process.waitForExit(within: .seconds(30)) == 1)
    #expect(process.output.contains("ADMISSION_DEADLINE"))
  }

  @Test("fifty pods at once are decided at once")
  func manyAtOnce() async throws {
    let loop = loop
    let admission = ScriptedAdmission { _ in
      await loop.sleep(for: .milliseconds(1500))
      return .captured
    }
    try await serve(admission)
    let processes = try (0..<50).map { try plugin("ADD", pod: "web-\($0)", timeout: 100) }
    for process in processes { #expect(process.waitForExit(within: .seconds(100)) == 0) }
    let most = await withCheckedContinuation { continuation in
      loop.spawn { continuation.resume(returning: admission.mostAtOnce) }
    }
    #expect(most > 10)
  }

  @Test("answers are counted by status, and how long pods took to be captured")
  func counted() async throws {
    let metrics = AgentMetrics(version: "1")
    try await serve(
      metrics: metrics,
      ScriptedAdmission { sandbox throws(PodAdmissionError) in
        if sandbox.name == "bad" { throw .starting }
        return sandbox.name == "in" ? .captured : .notInMesh(reason: "no label")
      })
    for name in ["in", "out", "bad"] {
      _ = try post("/admit", #"{"PodName":"\#(name)","PodNamespace":"shop"}"#)
    }
    _ = try post("/nowhere", "{}")
    let text = String(decoding: metrics.registry.text(.openMetrics), as: UTF8.self)
    #expect(text.contains("istio_cni_plugin_requests_total{response_code=\"200\"} 2\n"))
    #expect(text.contains("istio_cni_plugin_requests_total{response_code=\"500\"} 1\n"))
    #expect(text.contains("istio_cni_plugin_requests_total{response_code=\"404\"} 1\n"))
    #expect(text.contains("node_agent_pod_capture_seconds_count 1\n"))
  }

  @Test("CHECK asks for the proof, DEL tells of the end")
  func checkAndDelete() async throws {
    let admission = ScriptedAdmission { _ in .captured }
    try await serve(admission)
    #expect(try plugin("CHECK").waitForExit(within: .seconds(30)) == 0)
    #expect(try plugin("DEL").waitForExit(within: .seconds(30)) == 0)
    let told = await withCheckedContinuation { continuation in
      loop.spawn { continuation.resume(returning: admission.told) }
    }
    #expect(told.map(\.containerID) == ["c1"])
  }

  @Test("Istio's plugin is answered as by Istio's agent")
  func istio() async throws {
    try await serve(
      ScriptedAdmission { sandbox in sandbox.name == "in" ? .captured : .notInMesh(reason: "no label") })
    let body = #"{"Netns":"/var/run/netns/x","PodName":"in","PodNamespace":"shop","IPs":null}"#
    #expect(try post("/cmdadd", body) == "\n200")
    let outside = try post("/cmdadd", body.replacing("in\"", with: "out\""))
    #expect(outside.hasSuffix("\n500"))
    #expect(outside.contains("no label"))
  }

  @Test(
    "what makes no sense is refused",
    arguments: [
      ("POST", "/admit", "", "400"), ("POST", "/admit", "{", "400"), ("POST", "/admit", "{}", "400"),
      ("POST", "/admit", #"{"PodName":"p","PodNamespace":"n","IPs":[{"Address":{"IP":"x"}}]}"#, "400"),
      ("PUT", "/admit", "{}", "405"), ("POST", "/else", "{}", "404"),
      ("POST", "/admit", String(repeating: "x", count: 70_000), "413"),
    ])
  func senseless(method: String, path: String, body: String, status: String) async throws {
    try await serve(ScriptedAdmission { _ in .captured })
    #expect(try post(path, body, method: method).hasSuffix("\n\(status)"))
  }

  @Test("nobody but root may ask")
  func strangers() async throws {
    try await serve(users: [12345], ScriptedAdmission { _ in .captured })
    var status = stat()
    #expect(stat("\(node.root)/run/pluginevent.sock", &status) == 0)
    #expect(status.st_mode & 0o777 == 0o600)
    let process = try plugin("ADD", timeout: 2)
    #expect(process.waitForExit(within: .seconds(30)) == 1)
    #expect(process.output.contains("CNI_AGENT_AWAY"))
  }
}
