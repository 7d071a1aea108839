import Foundation
import JSON
import Linux
import Synchronization
import TestSupport
import Testing
import Vocabulary

/// A node with everything Kubernetes runs on one, and the daemons under test beside it.
final class KubernetesNode: Sendable {
  static let shared = Mutex<KubernetesNode?>(nil)

  static func current() throws -> KubernetesNode { try #require(shared.withLock { $0 }) }

  private let rig: NodeRig
  let environment: [String: String]
  /// The network of the node itself.
  let network: NetworkNamespace
  let directory: String
  private let daemons = Mutex<[String: RunningProcess]>([:])
  /// What ztunnel is told besides pods, and the pods it was told of last.
  private let mesh = Mutex(NodeMesh())

  init() throws {
    let rig = try #require(NodeRig.found)
    self.rig = rig
    let output = try Command.mustRun([rig.up], timeout: .seconds(300))
    var environment: [String: String] = [:]
    for line in output.split(separator: "\n") where line.hasPrefix("export ") {
      let parts = line.dropFirst(7).split(separator: "=", maxSplits: 1).map(String.init)
      if parts.count == 2 { environment[parts[0]] = parts[1] }
    }
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    environment["PATH"] = environment["PATH"]?.replacing("$PATH", with: path)
    self.environment = environment
    network = try NetworkNamespace(path: try #require(environment["K8S_NETNS"]))
    directory = NSTemporaryDirectory() + "/ambient-node-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: directory + "/ca", withIntermediateDirectories: true)
    let authority = directory + "/ca"
    try Command.mustRun([
      "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
      "-subj", "/O=test/CN=root", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout",
      authority + "/ca-key.pem", "-out", authority + "/ca-cert.pem",
    ])
    try FileManager.default.copyItem(atPath: authority + "/ca-cert.pem", toPath: authority + "/root-cert.pem")
  }

  /// Starts what is not running of the node, and returns when it is ready.
  func start() throws { try Command.mustRun([rig.up], timeout: .seconds(300)) }

  func stop() {
    for daemon in daemons.withLock({ Array($0.values) }) { daemon.kill() }
    _ = try? Command.run([rig.down], timeout: .seconds(60))
    try? FileManager.default.removeItem(atPath: directory)
  }

  // MARK: Daemons

  var socket: String { directory + "/ztunnel.sock" }
  var meshFile: String { directory + "/mesh.yaml" }

  /// Starts the agent as the chart starts it, with this node's kubeconfig instead of a service account.
  @discardableResult
  func startAgent(_ additional: [String: String] = [:]) throws -> RunningProcess {
    let binary = try #require(BuiltProduct.path("node-agent"), "build the package first")
    var variables = [
      "NODE_NAME": "node1", "KUBECONFIG": try #require(environment["KUBECONFIG"]), "AMBIENT_ENABLED": "true",
      "ZTUNNEL_UDS_ADDRESS": socket, "CNI_AGENT_RUN_DIR": directory + "/run", "EXCLUDE_NAMESPACES": "kube-system",
      "AMBIENT_RECONCILE_INTERVAL": "500ms", "AMBIENT_STATUS_SOCKET": directory + "/status.sock",
    ]
    variables.merge(additional) { $1 }
    return try start("agent", [binary, "install-cni", "--log_output_level=info,cni-agent:info"], variables)
  }

  /// Starts a ztunnel. Two that run at once need different names, and ports of their own.
  @discardableResult
  func startZtunnel(_ name: String = "ztunnel", _ additional: [String: String] = [:]) throws -> RunningProcess {
    let binary = try #require(BuiltProduct.path("ztunnel"), "build the package first")
    try mesh.withLock { try $0.write(to: meshFile) }
    var variables = [
      "LOCAL_XDS_PATH": meshFile, "LOCAL_CA_PATH": directory + "/ca", "INPOD_UDS": socket, "NODE_NAME": "node1",
      "ZTUNNEL_WORKER_THREADS": "1", "RUST_LOG": "info,access=debug", "CONNECTION_TERMINATION_DEADLINE": "1s",
    ]
    variables.merge(additional) { $1 }
    let ztunnel = try start(name, [binary], variables)
    try #require(ztunnel.waitForLine(containing: "limits") != nil, "\(ztunnel.output)\(ztunnel.errors)")
    return ztunnel
  }

  private func start(_ name: String, _ command: [String], _ variables: [String: String]) throws -> RunningProcess {
    let process = try RunningProcess(command, environment: variables, in: network)
    daemons.withLock { $0[name] = process }
    return process
  }

  func agent() throws -> RunningProcess { try #require(daemons.withLock { $0["agent"] }) }
  func ztunnel(_ name: String = "ztunnel") throws -> RunningProcess {
    try #require(daemons.withLock { $0[name] })
  }

  /// Whether the daemon that was started under this name last still runs.
  func isRunning(_ name: String) -> Bool { daemons.withLock { $0[name] }?.isRunning == true }

  /// Ends the agent with a signal and waits until it is gone.
  func stopAgent(with signal: CInt) {
    guard let agent = daemons.withLock({ $0["agent"] }) else { return }
    agent.signal(signal)
    _ = agent.waitForExit(within: .seconds(10))
  }

  /// Nobody is asked and nothing is put in order.
  func killDaemons() {
    for daemon in daemons.withLock({ Array($0.values) }) {
      daemon.kill()
      _ = daemon.waitForExit(within: .seconds(10))
    }
  }

  func stopZtunnel(_ name: String = "ztunnel") {
    daemons.withLock { $0[name] }?.terminate(grace: .seconds(10))
  }

  /// Ends both daemons and removes the pods of a test. For the end of each test, however it ended.
  func clean(_ namespaces: [String]) {
    for name in namespaces {
      _ = try? kubectl(["delete", "namespace", name, "--wait=false"])
      _ = try? kubectl(["delete", "pods", "--all", "-n", name, "--grace-period=0", "--force"])
      forget(name)
    }
    for daemon in daemons.withLock({ Array($0.values) }) { daemon.terminate(grace: .seconds(10)) }
    daemons.withLock { $0 = [:] }
    _ = try? set(policies: [])
  }

  /// What the daemons wrote, for a failure that needs an explanation.
  func printLogs() {
    for (name, daemon) in daemons.withLock({ $0 }) { print("--- \(name)\n\(daemon.output)\n\(daemon.errors)") }
  }

  // MARK: The mesh

  /// Policies that are in force for every pod of the tests.
  func set(policies: [NodePolicy]) throws {
    try mesh.withLock { mesh in
      mesh.policies = policies
      try mesh.write(to: meshFile)
    }
  }

  /// Nobody asks for this namespace's pods any more.
  func forget(_ namespace: String) { mesh.withLock { $0.pods[namespace] = nil } }

  // MARK: The cluster

  @discardableResult
  func kubectl(_ arguments: [String], input: String = "", timeout: Duration = .seconds(30)) throws -> String {
    let process = try RunningProcess(
      ["env", "PATH=\(environment["PATH"] ?? "")", "kubectl"] + arguments, input: input,
      environment: environment)
    defer { process.kill() }
    guard let status = process.waitForExit(within: timeout) else {
      throw CommandError.timedOut(process.command, timeout, output: process.output, errors: process.errors)
    }
    guard status == 0 else { throw NodeCommandError(command: arguments, errors: process.errors + process.output) }
    return process.output
  }

  func apply(_ manifests: String...) throws {
    try kubectl(["apply", "-f", "-"], input: manifests.joined(separator: "\n---\n"))
  }

  /// The pods of a namespace as the API shows them now.
  func pods(_ namespace: String) throws -> [NodePod] {
    let list = try JSONValue.parse(Array(try kubectl(["get", "pods", "-n", namespace, "-o", "json"]).utf8))
    let pods = (list["items"]?.array ?? []).compactMap(NodePod.init)
    // As a control plane would: ztunnel serves nobody whom it was not told of.
    try mesh.withLock { mesh in
      mesh.pods[namespace] = pods
      try mesh.write(to: meshFile)
    }
    return pods
  }

  /// Pods are refused until the namespace's account is there.
  func waitForAccount(_ name: String = "default", in namespace: String) throws {
    let isThere = eventually(within: .seconds(45)) {
      (try? kubectl(["get", "serviceaccount", name, "-n", namespace])) != nil
    }
    try #require(isThere, "the service account of the namespace is there")
  }

  func pod(_ name: String, in namespace: String) throws -> NodePod? {
    try pods(namespace).first { $0.name == name }
  }
}
