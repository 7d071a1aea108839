import Foundation
import HTTP2
import JSON
import Kubernetes
import KubernetesTestSupport
import Linux
import Logging
import TestSupport
import Testing
import Vocabulary
import ZDS

@testable import NodeAgent

/// A cluster of one node, behind an API server that can go away. Belongs to its loop.
final class FakeCluster {
  struct Pod {
    var uid: String
    var annotations: [String: String] = [:]
    var labels: [String: String] = [:]
    var address: String?
  }

  let server: FakeAPIServer
  /// By name, all of the namespace `shop`.
  var pods: [String: Pod] = [:]
  /// By name, with their labels.
  var namespaces: [String: [String: String]] = ["shop": ["istio.io/dataplane-mode": "ambient"]]
  /// Connections break.
  var isAway = false { didSet { if isAway { server.dropConnections() } } }
  /// The watches show nothing of what others write.
  var areWatchesStalled = false
  /// Answers nothing.
  var isSilent = false
  private var version = 10

  init(on loop: EventLoop) throws {
    server = try FakeAPIServer(on: loop)
    server.answer = { [unowned self] in answer($0) }
  }

  /// What was posted to `events`, by reason.
  var events: [String] {
    server.requests.filter { $0.method == "POST" && $0.path.hasSuffix("/events") }
      .compactMap { (try? JSONValue.parse($0.body.bytes))?["reason"]?.string }
  }

  /// Tells the watches of pods, or does not.
  func tell(_ type: String, _ name: String) {
    guard let pod = pods[name] else { return }
    push(Texts.event(type, text(name, pod)), to: "/api/v1/pods")
  }

  func tellNamespace(_ type: String, _ name: String) {
    push(Texts.event(type, namespace(name, namespaces[name] ?? [:])), to: "/api/v1/namespaces")
  }

  /// Pods and namespaces are watched: what is told now is heard.
  var isWatched: Bool { ["/api/v1/pods", "/api/v1/namespaces"].allSatisfy { !openWatches(of: $0).isEmpty } }

  private func push(_ line: String, to path: String) {
    for watch in openWatches(of: path) { watch.push(line + "\n") }
  }

  private func openWatches(of path: String) -> [FakeAPIServer.Exchange] {
    server.watches.filter { $0.target.hasPrefix(path + "?") && !$0.isClosed }
  }

  // MARK: Answers

  private func answer(_ request: FakeAPIServer.Request) -> FakeAPIServer.Answer {
    if isAway { return .hangUp }
    if isSilent { return .silence }
    let words = request.path.split(separator: "/").map(String.init)
    switch (request.method, words.count) {
    case ("POST", _): return .json(201, "{}")
    case ("GET", 3) where request.query["watch"] != nil: return .watch([], ends: false)
    case ("GET", 3) where words[2] == "pods":
      return list(pods.sorted { $0.key < $1.key }.map { text($0.key, $0.value) })
    case ("GET", 3): return list(namespaces.sorted { $0.key < $1.key }.map { namespace($0.key, $0.value) })
    case ("GET", 4):
      return namespaces[words[3]].map { .json(200, namespace(words[3], $0)) } ?? .json(404, "{}")
    case ("GET", 6): return pods[words[5]].map { .json(200, text(words[5], $0)) } ?? .json(404, "{}")
    case ("PATCH", 7): return patch(words[5], request.body.bytes)
    default: return .json(404, "{}")
    }
  }

  private func list(_ items: [String]) -> FakeAPIServer.Answer {
    version += 1
    return .json(200, Texts.list(items, version: "\(version)"))
  }

  private func patch(_ name: String, _ body: [UInt8]) -> FakeAPIServer.Answer {
    guard var pod = pods[name], let meta = (try? JSONValue.parse(body))?["metadata"], meta["uid"]?.string == pod.uid
    else { return .json(409, "{}") }
    for member in meta["annotations"]?.object?.members ?? [] { pod.annotations[member.key] = member.value.string }
    pods[name] = pod
    if !areWatchesStalled { tell("MODIFIED", name) }
    return .json(200, text(name, pod))
  }

  private func text(_ name: String, _ pod: Pod) -> String {
    version += 1
    let addresses: JSONValue = .array(pod.address.map { [["ip": .string($0)]] } ?? [])
    return JSONValue.object(
      JSONObject([
        .init(
          key: "metadata",
          value: [
            "name": .string(name), "namespace": "shop", "uid": .string(pod.uid),
            "resourceVersion": .string("\(version)"), "labels": map(pod.labels), "annotations": map(pod.annotations),
          ]),
        .init(key: "spec", value: ["nodeName": "n1", "serviceAccountName": "sa"]),
        .init(key: "status", value: ["phase": "Running", "podIPs": addresses]),
      ])
    ).text
  }

  private func namespace(_ name: String, _ labels: [String: String]) -> String {
    version += 1
    return JSONValue.object(
      JSONObject([
        .init(
          key: "metadata",
          value: ["name": .string(name), "resourceVersion": .string("\(version)"), "labels": map(labels)])
      ])
    ).text
  }

  private func map(_ values: [String: String]) -> JSONValue {
    .object(JSONObject(values.map { .init(key: $0.key, value: .string($0.value)) }))
  }
}

/// A source of pods with its enroller, among fakes, on their loop.
final class ClusterScene {
  let scene: Scene
  let cluster: FakeCluster
  let state: TemporaryDirectory
  private(set) var source: KubernetesSource
  private(set) var reports: [Completeness] = []
  private let trustsWatch: Bool

  init(_ loop: EventLoop, trustsWatch: Bool) throws {
    self.trustsWatch = trustsWatch
    scene = try Scene(loop)
    cluster = try FakeCluster(on: loop)
    state = try TemporaryDirectory()
    source = Self.source(scene, cluster, state, trustsWatch) { _, _ in }
  }

  private static func source(
    _ scene: Scene, _ cluster: FakeCluster, _ state: TemporaryDirectory, _ trustsWatch: Bool,
    _ report: @escaping ([DesiredWorkload], Completeness) -> Void
  ) -> KubernetesSource {
    let settings = KubernetesSettings(
      access: cluster.server.access(), nodeName: "n1",
      rules: EnrolmentRules(selectors: EnablementSelector.standard), trustsWatch: trustsWatch)
    var timing = KubernetesSource.Timing()
    timing.confirmation = .milliseconds(50)
    timing.patience = .milliseconds(50)
    return KubernetesSource(
      settings, enroller: scene.enroller, stateDirectory: state.path, timing: timing,
      logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, on: scene.loop, report: report)
  }

  /// An agent starts, with what an earlier one left in the state directory.
  func start() {
    source = Self.source(scene, cluster, state, trustsWatch) { [unowned self] workloads, completeness in
      reports.append(completeness)
      scene.enroller.want(workloads)
    }
    source.start()
  }

  /// An agent that knows the cluster.
  func startAndRead() async {
    start()
    #expect(await scene.loop.waitUntil { self.source.view.isComplete && self.cluster.isWatched })
  }

  /// A pod `web`, `u1`, whose sandbox is there, and an agent that knows it. Returns the sandbox's namespace.
  @discardableResult
  func startWithPod() async throws -> NamespaceIdentity {
    let identity = try scene.namespaces.make("web")
    cluster.pods["web"] = .init(uid: "u1")
    await startAndRead()
    return identity
  }

  /// The same, and the pod is captured.
  @discardableResult
  func startWithCapturedPod() async throws -> NamespaceIdentity {
    let identity = try await startWithPod()
    #expect(await admit("web", uid: "u1") == .success(.captured))
    return identity
  }

  /// The agent ends, and nothing of what it knew is in memory.
  func endAndForget() async {
    await end()
    scene.enroller.want([])
    #expect(await scene.loop.waitUntil { self.scene.enroller.states.isEmpty })
    scene.journal.clear()
  }

  /// The agent ends; what it wrote into namespaces stays.
  func end() async {
    source.stop()
    reports = []
    scene.enroller.onChange = nil
  }

  /// The plugin asks about a pod whose sandbox has this name.
  func admit(
    _ name: String, uid: String, within limit: Duration = .seconds(5)
  ) async -> Result<PodAdmissionOutcome, PodAdmissionError> {
    let sandbox = PodSandbox(
      namespace: "shop", name: name, uid: uid, containerID: "c-\(uid)", networkNamespace: scene.namespaces.path(name))
    do throws(PodAdmissionError) { return .success(try await source.admit(sandbox, until: .now + limit)) } catch {
      return .failure(error)
    }
  }

  /// Runs a scene. What it throws is the test's failure.
  static func play(
    trustsWatch: Bool = false, _ body: @escaping @Sendable (ClusterScene) async throws -> Void
  ) async throws {
    let failure = try await onLoop { loop -> String? in
      do {
        let scene = try ClusterScene(loop, trustsWatch: trustsWatch)
        try await body(scene)
        scene.source.stop()
        scene.cluster.server.stop()
        _ = await scene.scene.enroller.leaveAll(within: .seconds(5))
        return nil
      } catch { return "\(error)" }
    }
    if let failure { Issue.record("\(failure)") }
  }
}
