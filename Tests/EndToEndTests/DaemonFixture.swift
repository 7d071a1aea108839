import Foundation
import Synchronization
import Testing

@testable import TestSupport

/// A mesh whose nodes each run the real node agent, fed with workload files.
final class DaemonFixture: Sendable {
  let mesh: MeshFixture
  private let agents = Mutex<[ObjectIdentifier: RunningProcess]>([:])

  private let older = Mutex<[RunningProcess]>([])

  /// Proxies that were replaced and see their connections to the end.
  var predecessors: [RunningProcess] { older.withLock { $0 } }

  func remember(predecessor: RunningProcess) { older.withLock { $0.append(predecessor) } }

  private init(_ mesh: MeshFixture) { self.mesh = mesh }

  /// Gives a running mesh to `body`, and takes everything down afterwards.
  static func with(
    environment: [String: String] = [:], _ body: (DaemonFixture) async throws -> Void
  ) async throws {
    try await MeshFixture.with(environment: environment) { mesh in
      let fixture = DaemonFixture(mesh)
      for node in [mesh.left, mesh.right] {
        // The stand-in leaves its socket to the real one.
        try await node.agent.stop()
        try FileManager.default.createDirectory(
          atPath: fixture.workloads(of: node), withIntermediateDirectories: true)
        try fixture.startAgent(on: node)
      }
      do { try await body(fixture) } catch {
        for agent in fixture.agents.withLock({ Array($0.values) }) {
          print("--- node-agent\n\(agent.output)\n\(agent.errors)")
        }
        throw error
      }
      for agent in fixture.agents.withLock({ Array($0.values) }) where agent.isRunning {
        #expect(agent.terminate(grace: .seconds(10)) == 0, "node-agent ends in order")
      }
    }
  }

  func workloads(of node: MeshFixture.MeshNode) -> String {
    mesh.directory + (node === mesh.left ? "/left.d" : "/right.d")
  }

  @discardableResult
  func startAgent(on node: MeshFixture.MeshNode) throws -> RunningProcess {
    let binary = try #require(BuiltProduct.path("node-agent"), "build the package first")
    let process = try node.node.spawn(
      [binary, "run", "--ztunnel-uds-address", node.agent.socketPath, "--workloads", workloads(of: node)],
      environment: [
        "AMBIENT_RECONCILE_INTERVAL": "200ms", "AMBIENT_STATE_DIRECTORY": mesh.directory + "/state",
        "LOG_LEVEL": "info",
      ])
    agents.withLock { $0[ObjectIdentifier(node)] = process }
    return process
  }

  /// The running agent.
  func agent(of node: MeshFixture.MeshNode) throws -> RunningProcess {
    try #require(agents.withLock { $0[ObjectIdentifier(node)] })
  }

  // MARK: Workload files

  /// A pod the mesh knows of, with its file, enrolled by the agent when this returns.
  func pod(_ name: String, on node: MeshFixture.MeshNode) async throws -> MeshPod {
    let pod = try await mesh.pod(name, on: node, enrolled: false)
    try write(description(of: pod), for: name, on: node)
    try #require(try agent(of: node).waitForLine("enrolled", "uid-\(name)") != nil, "the agent enrols \(name)")
    return pod
  }

  func description(of pod: MeshPod, inMesh: Bool = true, uid: String? = nil) -> String {
    """
    name: \(pod.name)
    namespace: demo
    serviceAccount: \(pod.serviceAccount)
    netns: \(pod.pod.place.path)
    uid: \(uid ?? "uid-\(pod.name)")
    mesh: \(inMesh)

    """
  }

  /// Writes a file as a careful administrator does: beside, then into place.
  func write(_ text: String, for name: String, on node: MeshFixture.MeshNode) throws {
    try text.write(toFile: "\(workloads(of: node))/\(name).yaml", atomically: true, encoding: .utf8)
  }

  func removeFile(of name: String, on node: MeshFixture.MeshNode) throws {
    try FileManager.default.removeItem(atPath: "\(workloads(of: node))/\(name).yaml")
  }

  /// Whether rules of the mesh are in the pod, in either family.
  func isRedirected(_ pod: MeshPod) throws -> Bool {
    try pod.pod.countedRules.contains { $0.contains("ISTIO") }
  }
}
