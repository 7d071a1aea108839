import HTTP2
import JSON
import Kubernetes
import KubernetesTestSupport
import Linux
import Logging
import Testing

@testable import NodeAgent

@Suite("Pods whose sidecar found no redirection")
struct PodRepairTests {
  private static func pod(
    _ container: Pod.InitContainer, labels: [String: String] = [:],
    annotations: [String: String] = ["sidecar.istio.io/status": "{}"], node: String = "n1"
  ) -> Pod {
    Pod(
      meta: ObjectMeta(
        name: "a", namespace: "shop", uid: "u", resourceVersion: "7", labels: labels, annotations: annotations),
      nodeName: node, initContainers: [container])
  }

  private static let failed = Pod.InitContainer(name: "istio-validation", endedBefore: .init(exitCode: 126))

  @Test(
    "a validation that failed and has not succeeded since, in a pod with a sidecar, on this node",
    arguments: [
      (pod(failed), true), (pod(failed, annotations: [:]), false), (pod(failed, node: "n2"), false),
      (pod(.init(name: "other", endedBefore: .init(exitCode: 126))), false),
      (pod(.init(name: "istio-validation", endedBefore: .init(exitCode: 1))), false),
      (pod(.init(name: "istio-validation")), false),
      (pod(.init(name: "istio-validation", ended: .init(exitCode: 0), endedBefore: .init(exitCode: 126))), false),
      (pod(.init(name: "istio-validation", ended: .init(exitCode: 1), endedBefore: .init(exitCode: 126))), true),
    ])
  func broken(pod: Pod, isBroken: Bool) {
    #expect(RepairSettings(nodeName: "n1").isBroken(pod) == isBroken)
  }

  @Test("exit code 0 means any; a message is compared without the space around it; labels can be asked for")
  func settings() throws {
    var settings = try #require(
      try RepairSettings([
        "NODE_NAME": "n1", "REPAIR_INIT_CONTAINER_EXIT_CODE": "0", "REPAIR_LABEL_SELECTORS": "app=web,!skip",
      ]))
    let other = Pod.InitContainer(name: "istio-validation", endedBefore: .init(exitCode: 3, message: " lost \n"))
    #expect(settings.isBroken(Self.pod(other, labels: ["app": "web"])))
    #expect(!settings.isBroken(Self.pod(other, labels: ["app": "web", "skip": ""])))
    #expect(!settings.isBroken(Self.pod(other)))
    settings.terminationMessage = "lost"
    #expect(settings.isBroken(Self.pod(other, labels: ["app": "web"])))
    settings.terminationMessage = "found"
    #expect(!settings.isBroken(Self.pod(other, labels: ["app": "web"])))
  }

  @Test(
    "deleting comes before labelling, and neither means reporting",
    arguments: [
      ([:], nil), (["REPAIR_LABEL_PODS": "true"], .label),
      (["REPAIR_LABEL_PODS": "true", "REPAIR_DELETE_PODS": "true"], .delete), (["REPAIR_REPAIR_PODS": "true"], nil),
    ] as [([String: String], RepairSettings.Action?)])
  func action(environment: [String: String], action: RepairSettings.Action?) throws {
    #expect(try #require(try RepairSettings(environment)).action == action)
  }

  @Test("it can be switched off")
  func off() throws {
    #expect(try RepairSettings(["REPAIR_ENABLED": "false"]) == nil)
  }

  @Test(
    "what was done is counted, and told in the pod's events",
    arguments: [(RepairSettings.Action.label, 200, "success"), (.delete, 200, "success"), (.delete, 404, "skip")])
  func counted(action: RepairSettings.Action, status: Int, result: String) async throws {
    let metrics = AgentMetrics(version: "1")
    let seen = try await onLoop { loop -> [String] in
      do {
        let server = try FakeAPIServer(on: loop)
        server.answer = { .json($0.method == "POST" ? 201 : status, "{}") }
        let client = APIClient(server.access(), loop: loop, buffers: WorkBuffers())
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let events = PodEventRecorder(client, nodeName: "n1", logger: logger)
        let repair = PodRepair(
          RepairSettings(action: action, nodeName: "n1"), client: client, events: events, metrics: metrics,
          logger: logger)
        repair.consider(Self.pod(Self.failed))
        let wanted = result == "success" ? 2 : 1
        _ = await loop.waitUntil { server.requests.count >= wanted && metrics.repairedPods.readings.count == 1 }
        server.stop()
        return server.requests.map { "\($0.method) \($0.path)" }
      } catch { return ["\(error)"] }
    }
    let path = "/api/v1/namespaces/shop/pods/a"
    #expect(seen.first == (action == .delete ? "DELETE \(path)" : "PATCH \(path)/status"))
    #expect(seen.dropFirst().first == (result == "success" ? "POST /api/v1/namespaces/shop/events" : nil))
    let text = String(decoding: metrics.registry.text(.openMetrics), as: UTF8.self)
    let line = "istio_cni_repair_pods_repaired_total{type=\"\(action.rawValue)\",result=\"\(result)\"} 1\n"
    #expect(text.contains(line))
  }

  @Test("only that very pod is deleted or labelled")
  func requests() throws {
    let settings = RepairSettings(nodeName: "n1")
    let deletion = PodRepair.request(.delete, Self.pod(Self.failed), settings)
    #expect(deletion.method == .delete)
    let options = try JSONValue.parse(deletion.body)
    #expect(options["preconditions"] == ["uid": "u", "resourceVersion": "7"])
    let label = PodRepair.request(.label, Self.pod(Self.failed), settings)
    #expect(label.path == "/api/v1/namespaces/shop/pods/a/status")
    #expect(
      try JSONValue.parse(label.body)
        == ["metadata": ["uid": "u", "labels": ["cni.istio.io/uninitialized": "true"]]])
  }
}
