import Foundation
import JSON
import Linux
import Synchronization
import TestSupport
import Testing
import Vocabulary

/// Where a real node comes from: a script that brings up an API server, a kubelet and a container runtime inside a
/// network namespace, and prints the environment to use them as `export` lines; beside it one named `down`.
struct NodeRig {
  let up: String
  var down: String { (up as NSString).deletingLastPathComponent + "/down" }

  /// The script of `AMBIENT_K8S_RIG`, or `../shared/k8s/up` beside the checkout.
  static let found: NodeRig? = {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let beside = root.deletingLastPathComponent().appending(path: "shared/k8s/up").path
    let path = ProcessInfo.processInfo.environment["AMBIENT_K8S_RIG"] ?? beside
    return FileManager.default.isExecutableFile(atPath: path) ? NodeRig(up: path) : nil
  }()

  /// What the script built before: without it, bringing up a node takes a quarter of an hour.
  static var isWarm: Bool {
    let cache = ProcessInfo.processInfo.environment["K8S_CACHE"] ?? "/var/cache/ambient-k8s"
    return FileManager.default.fileExists(atPath: cache + "/bin/.recipe")
  }

  static var isTaken: Bool { FileManager.default.fileExists(atPath: "/run/ambient-k8s/env") }
}

extension Requirement {
  static var kubernetesNode: Requirement {
    if NodeRig.found == nil {
      return Requirement(false, otherwise: "needs a real node: set AMBIENT_K8S_RIG, see docs/kubernetes-testing.md")
    }
    if !NodeRig.isWarm {
      return Requirement(false, otherwise: "the node's cache is cold: run the rig's `up --build` once")
    }
    return Requirement(!NodeRig.isTaken, otherwise: "a node is up already, and there can be only one")
  }
}

/// Brings the node up before the first test of a suite and takes it down after the last.
struct RunningNode: SuiteTrait, TestScoping {
  func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable @concurrent () async throws -> Void
  )
    async throws
  {
    let node = try KubernetesNode()
    KubernetesNode.shared.withLock { $0 = node }
    defer {
      KubernetesNode.shared.withLock { $0 = nil }
      node.stop()
    }
    try await function()
  }
}

extension Trait where Self == RunningNode {
  static var runningNode: Self { RunningNode() }
}

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
      "AMBIENT_RECONCILE_INTERVAL": "500ms",
    ]
    variables.merge(additional) { $1 }
    return try start("agent", [binary, "install-cni", "--log_output_level=info,cni-agent:info"], variables)
  }

  @discardableResult
  func startZtunnel() throws -> RunningProcess {
    let binary = try #require(BuiltProduct.path("ztunnel"), "build the package first")
    if !FileManager.default.fileExists(atPath: meshFile) {
      try "workloads: []\n".write(toFile: meshFile, atomically: true, encoding: .utf8)
    }
    let ztunnel = try start(
      "ztunnel", [binary],
      [
        "LOCAL_XDS_PATH": meshFile, "LOCAL_CA_PATH": directory + "/ca", "INPOD_UDS": socket, "NODE_NAME": "node1",
        "ZTUNNEL_WORKER_THREADS": "1", "RUST_LOG": "info,access=debug", "CONNECTION_TERMINATION_DEADLINE": "1s",
      ])
    try #require(ztunnel.waitForLine(containing: "limits") != nil, "\(ztunnel.output)\(ztunnel.errors)")
    return ztunnel
  }

  private func start(_ name: String, _ command: [String], _ variables: [String: String]) throws -> RunningProcess {
    let process = try RunningProcess(command, environment: variables, in: network)
    daemons.withLock { $0[name] = process }
    return process
  }

  func agent() throws -> RunningProcess { try #require(daemons.withLock { $0["agent"] }) }
  func ztunnel() throws -> RunningProcess { try #require(daemons.withLock { $0["ztunnel"] }) }

  /// Ends the agent with a signal and waits until it is gone.
  func stopAgent(with signal: CInt) {
    guard let agent = daemons.withLock({ $0["agent"] }) else { return }
    agent.signal(signal)
    _ = agent.waitForExit(within: .seconds(10))
  }

  func stopZtunnel() {
    daemons.withLock { $0["ztunnel"] }?.terminate(grace: .seconds(10))
  }

  /// Stops the API server's process for the time of `body`: connections stay open and nothing answers.
  func pauseServer(_ body: () throws -> Void) throws {
    let file = try String(contentsOfFile: "/run/ambient-k8s/pids/kube-apiserver", encoding: .utf8)
    let pid = try #require(pid_t(file.split(separator: " ").first.map(String.init) ?? ""))
    kill(pid, SIGSTOP)
    defer { kill(pid, SIGCONT) }
    try body()
  }

  /// Ends both daemons and removes the pods of a test. For the end of each test, however it ended.
  func clean(_ namespaces: [String]) {
    for name in namespaces {
      _ = try? kubectl(["delete", "namespace", name, "--wait=false"])
      _ = try? kubectl(["delete", "pods", "--all", "-n", name, "--grace-period=0", "--force"])
    }
    for daemon in daemons.withLock({ Array($0.values) }) { daemon.terminate(grace: .seconds(10)) }
    daemons.withLock { $0 = [:] }
  }

  /// What the daemons wrote, for a failure that needs an explanation.
  func printLogs() {
    for (name, daemon) in daemons.withLock({ $0 }) { print("--- \(name)\n\(daemon.output)\n\(daemon.errors)") }
  }

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
    try writeMesh(pods)
    return pods
  }

  func pod(_ name: String, in namespace: String) throws -> NodePod? {
    try pods(namespace).first { $0.name == name }
  }

  /// The network namespace that has this pod's address.
  func network(of pod: NodePod) throws -> (path: String, namespace: NetworkNamespace) {
    let address = try #require(pod.address)
    for name in try FileManager.default.contentsOfDirectory(atPath: "/run/netns") where name.hasPrefix("cni-") {
      let path = "/run/netns/\(name)"
      // Namespaces of pods that end just now go away meanwhile.
      guard let namespace = try? NetworkNamespace(path: path), (try? namespace.holds(anyOf: [address])) == true else {
        continue
      }
      return (path, namespace)
    }
    throw CommandError.notFound("a namespace with \(address)")
  }

  /// Whether exactly the redirection of an enrolled pod is inside.
  func isCaptured(_ pod: NodePod) throws -> Bool {
    let binary = try #require(BuiltProduct.path("node-agent"))
    return try Command.run([binary, "rules", "--netns", try network(of: pod).path, "--check"]).succeeded
  }

  /// Whether nothing of ours is inside.
  func isUntouched(_ pod: NodePod) throws -> Bool {
    let binary = try #require(BuiltProduct.path("node-agent"))
    let rules = try Command.mustRun([binary, "rules", "--netns", try network(of: pod).path])
    return !rules.contains("ISTIO")
  }

  /// Tells ztunnel of pods.
  func writeMesh(_ pods: [NodePod]) throws {
    let workloads = pods.compactMap { pod in
      pod.address.map { address in
        """
        - uid: Kubernetes//Pod/\(pod.namespace)/\(pod.name)
          name: \(pod.name)
          namespace: \(pod.namespace)
          serviceAccount: default
          workloadName: \(pod.name)
          canonicalName: \(pod.name)
          node: node1
          workloadIps: ["\(address)"]
          protocol: HBONE
          services: {}
        """
      }
    }
    let text = "workloads:\(workloads.isEmpty ? " []" : "")\n\(workloads.joined(separator: "\n"))\n"
    if (try? String(contentsOfFile: meshFile, encoding: .utf8)) != text {
      try text.write(toFile: meshFile, atomically: true, encoding: .utf8)
    }
  }
}

/// A command of a test that failed.
struct NodeCommandError: Error, CustomStringConvertible {
  let command: [String]
  let errors: String
  var description: String { "kubectl \(command.joined(separator: " ")): \(errors)" }
}

/// A pod as the API shows it.
struct NodePod {
  let name: String
  let namespace: String
  let uid: String
  let address: IPAddress?
  let phase: String
  let isReady: Bool
  let restarts: Int
  /// The annotation by which the agent tells how far it is.
  let redirection: String?

  init?(_ object: JSONValue) {
    guard let name = object["metadata"]?["name"]?.string, let namespace = object["metadata"]?["namespace"]?.string,
      let uid = object["metadata"]?["uid"]?.string
    else { return nil }
    self.name = name
    self.namespace = namespace
    self.uid = uid
    address = object["status"]?["podIP"]?.string.flatMap { IPAddress($0) }
    phase = object["status"]?["phase"]?.string ?? ""
    let conditions = object["status"]?["conditions"]?.array ?? []
    isReady = conditions.contains { $0["type"]?.string == "Ready" && $0["status"]?.string == "True" }
    restarts = object["status"]?["containerStatuses"]?.array?.first?["restartCount"]?.integer ?? 0
    redirection = object["metadata"]?["annotations"]?["ambient.istio.io/redirection"]?.string
  }

  /// A web server on port 8080 that says its name, with a probe that asks it.
  static func manifest(
    _ name: String, in namespace: String, labels: [String: String] = [:], annotations: [String: String] = [:]
  ) -> String {
    let labels = labels.map { "\"\($0.key)\": \"\($0.value)\"" }.joined(separator: ", ")
    let annotations = annotations.map { "\"\($0.key)\": \"\($0.value)\"" }.joined(separator: ", ")
    return """
      apiVersion: v1
      kind: Pod
      metadata: {name: \(name), namespace: \(namespace), labels: {\(labels)}, annotations: {\(annotations)}}
      spec:
        terminationGracePeriodSeconds: 0
        automountServiceAccountToken: false
        containers:
        - name: web
          image: localhost/busybox:1
          imagePullPolicy: Never
          command: [sh, -c, "mkdir -p /tmp/w; echo \(name) >/tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w"]
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
      """
  }

  static func namespace(_ name: String, ambient: Bool) -> String {
    let labels = ambient ? "istio.io/dataplane-mode: ambient" : ""
    return """
      apiVersion: v1
      kind: Namespace
      metadata: {name: \(name), labels: {\(labels)}}
      """
  }
}
