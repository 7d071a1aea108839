import Foundation
import Identity
import Synchronization
import TestSupport
import Testing
import Vocabulary
import ZDS

/// A pod and what the mesh knows of it.
struct MeshPod: Sendable {
  let name: String
  var serviceAccount: String
  var pod: Pod
  /// Speaks HBONE; otherwise a plain host outside of the mesh.
  let inMesh: Bool
  var policies: [String] = []

  var info: WorkloadInfo { WorkloadInfo(name: name, namespace: "demo", serviceAccount: serviceAccount) }
  var identity: String { "spiffe://cluster.local/ns/demo/sa/\(serviceAccount)" }
  var uid: String { "Kubernetes//Pod/demo/\(name)" }
  var zdsUID: WorkloadUID { get throws { try #require(WorkloadUID("uid-\(name)")) } }

  func address(_ family: IPAddress.Family = .v4, port: UInt16) -> SocketAddress {
    SocketAddress(pod.address(family), port)
  }
}

/// Two nodes with a ztunnel each, a certificate authority, and a mesh file both read.
final class MeshFixture: Sendable {
  /// One node: its namespace, its agent and its proxy.
  final class MeshNode: Sendable {
    let node: Node
    let agent: TestAgent
    fileprivate let process = Mutex<RunningProcess?>(nil)

    init(_ node: Node, _ agent: TestAgent) {
      self.node = node
      self.agent = agent
    }

    /// The running proxy. Its output is the access log.
    var ztunnel: RunningProcess {
      get throws { try #require(process.withLock { $0 }) }
    }
  }

  private struct Model {
    var pods: [MeshPod] = []
    var services: [String] = []
    var policies: [String] = []
  }

  let network: TestNetwork
  let left: MeshNode
  let right: MeshNode
  let directory: String
  private let model = Mutex(Model())

  var meshFile: String { directory + "/mesh.yaml" }
  var authorityDirectory: String { directory + "/ca" }

  private init(_ network: TestNetwork) async throws {
    self.network = network
    directory = "/tmp/ambient-e2e-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    try DevelopmentAuthority.create(in: directory + "/ca")
    left = MeshNode(try network.node("left"), try await TestAgent(socketPath: directory + "/left.sock"))
    right = MeshNode(try network.node("right"), try await TestAgent(socketPath: directory + "/right.sock"))
    try writeMesh()
  }

  /// Gives a running mesh to `body`, and takes everything down afterwards. With `AMBIENT_TEST_LOGS` set, the output of
  /// both proxies is printed even if nothing is thrown.
  ///
  /// `launcher` is a command that is given the proxy's, and ends by becoming it.
  static func with(
    environment: [String: String] = [:], launcher: [String] = [], _ body: (MeshFixture) async throws -> Void
  ) async throws {
    await MeshSlots.shared.take()
    defer { MeshSlots.shared.giveBack() }
    try await TestNetwork.with { network in
      let fixture = try await MeshFixture(network)
      defer { try? FileManager.default.removeItem(atPath: fixture.directory) }
      do {
        for node in [fixture.left, fixture.right] {
          try fixture.startZtunnel(on: node, environment, launcher: launcher)
        }
        try await body(fixture)
        if ProcessInfo.processInfo.environment["AMBIENT_TEST_LOGS"] != nil { fixture.printLogs() }
      } catch {
        fixture.printLogs()
        throw error
      }
      for node in [fixture.left, fixture.right] {
        if let process = node.process.withLock({ $0 }), process.isRunning {
          #expect(process.terminate(grace: .seconds(10)) == 0, "ztunnel ends in order")
        }
      }
    }
  }

  /// The output of both proxies, for a failure that needs an explanation.
  func printLogs() {
    for (name, node) in [("left", left), ("right", right)] {
      let process = node.process.withLock { $0 }
      print("--- ztunnel \(name)\n\(process?.output ?? "")\n\(process?.errors ?? "")")
    }
  }

  // MARK: Proxies

  /// Where a node agent of this node answers about its proofs.
  func statusSocket(of node: MeshNode) -> String { directory + (node === left ? "/left" : "/right") + "-status.sock" }

  @discardableResult
  func startZtunnel(
    on node: MeshNode, _ environment: [String: String] = [:], launcher: [String] = []
  ) throws -> RunningProcess {
    let binary = try #require(BuiltProduct.path("ztunnel"), "build the package first")
    var all = [
      "LOCAL_XDS_PATH": meshFile, "LOCAL_CA_PATH": authorityDirectory, "INPOD_UDS": node.agent.socketPath,
      "NODE_NAME": node === left ? "left" : "right", "AMBIENT_STATUS_SOCKET": statusSocket(of: node),
      "ZTUNNEL_WORKER_THREADS": "2",
      "RUST_LOG": "info,access=debug,ztunnel::state=debug", "CONNECTION_TERMINATION_DEADLINE": "2s",
    ]
    all.merge(environment) { $1 }
    let process = try node.node.spawn(launcher + [binary], environment: all)
    node.process.withLock { $0 = process }
    return process
  }

  // MARK: The mesh

  /// A pod the mesh knows of; enrolled when it is in the mesh, unless `enrolled` is false.
  func pod(
    _ name: String, on node: MeshNode, serviceAccount: String? = nil, inMesh: Bool = true, policies: [String] = [],
    enrolled: Bool = true
  ) async throws -> MeshPod {
    let pod = MeshPod(
      name: name, serviceAccount: serviceAccount ?? name, pod: try node.node.pod(name), inMesh: inMesh,
      policies: policies)
    model.withLock { $0.pods.append(pod) }
    try writeMesh()
    if inMesh, enrolled { try await node.agent.enrol(pod) }
    return pod
  }

  /// Changes what the mesh knows of a pod, by its name, and writes the file.
  func update(_ pod: MeshPod) throws {
    model.withLock { model in
      guard let index = model.pods.firstIndex(where: { $0.name == pod.name }) else { return }
      model.pods[index] = pod
    }
    try writeMesh()
  }

  /// Adds a document fragment under `policies:` and writes the file.
  func add(policy: String) throws {
    model.withLock { $0.policies.append(policy) }
    try writeMesh()
  }

  /// Adds a policy and writes the file.
  func add(_ policy: MeshPolicy) throws { try add(policy: policy.document) }

  /// Removes every policy and writes the file.
  func removePolicies() throws {
    model.withLock { $0.policies = [] }
    try writeMesh()
  }

  /// A service of `pods` at `vip`, port 80 to `target`.
  func service(_ name: String, vip: String, target: UInt16, _ pods: [MeshPod]) throws {
    let names = pods.map(\.name)
    model.withLock { model in
      model.services.append(
        """
        - name: \(name)
          namespace: demo
          hostname: \(name).demo.svc.cluster.local
          vips: ["/\(vip)"]
          ports: {80: \(target)}
          endpoints:\(names.isEmpty ? " {}" : "")
        \(names.map { """
            "Kubernetes//Pod/demo/\($0)": {workloadUid: "Kubernetes//Pod/demo/\($0)", port: {80: \(target)}}
        """ }.joined(separator: "\n"))
        """)
    }
    try writeMesh()
  }

  /// Adds document fragments under `services:` and writes the file.
  func add(services: [String]) throws {
    model.withLock { $0.services += services }
    try writeMesh()
  }

  /// Writes the file, and returns when both proxies have it in force.
  private func writeMesh() throws {
    let (text, counts) = model.withLock { model in
      let counts = "policies=\"\(model.policies.count)\" services=\"\(model.services.count)\""
      let text = """
        workloads:\(model.pods.isEmpty ? " []" : "")
        \(model.pods.map(workload).joined(separator: "\n"))
        services:\(model.services.isEmpty ? " []" : "")
        \(model.services.joined(separator: "\n"))
        policies:\(model.policies.isEmpty ? " []" : "")
        \(model.policies.joined(separator: "\n"))
        """
      return (text, "\(counts) workloads=\"\(model.pods.count)\"")
    }
    let isNew = text != (try? String(contentsOfFile: meshFile, encoding: .utf8))
    let running = [left, right].compactMap { $0.process.withLock { $0 } }.filter(\.isRunning)
      .map { (process: $0, known: Self.meshVersions(of: $0).count) }
    try text.write(toFile: meshFile, atomically: true, encoding: .utf8)
    for (process, known) in running {
      let inForce = eventually(within: .seconds(10)) {
        let versions = Self.meshVersions(of: process)
        guard let latest = versions.last, versions.count > known || !isNew else { return false }
        return counts.split(separator: " ").allSatisfy { latest.contains($0) }
      }
      try #require(inForce, "the proxy takes over the mesh file")
    }
  }

  /// The lines by which a proxy says what mesh is in force.
  private static func meshVersions(of process: RunningProcess) -> [String] {
    process.lines.filter { $0.contains("mesh in force on every worker") }
  }

  private func workload(_ pod: MeshPod) -> String {
    """
    - uid: \(pod.uid)
      name: \(pod.name)
      namespace: demo
      serviceAccount: \(pod.serviceAccount)
      workloadName: \(pod.name)
      canonicalName: \(pod.name)
      node: \(pod.pod.node.index == 1 ? "left" : "right")
      workloadIps: ["\(pod.pod.ipv4)", "\(pod.pod.ipv6)"]
      protocol: \(pod.inMesh ? "HBONE" : "TCP")
      authorizationPolicies: [\(pod.policies.map { "\"\($0)\"" }.joined(separator: ", "))]
      services: {}
    """
  }
}
