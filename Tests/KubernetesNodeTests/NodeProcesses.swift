import Foundation
import Glibc
import Linux
import TestSupport
import Testing

/// The programs that Kubernetes consists of, as processes of the node.
extension KubernetesNode {
  private func pid(of program: String) throws -> pid_t {
    let file = try String(contentsOfFile: "/run/ambient-k8s/pids/\(program)", encoding: .utf8)
    return try #require(pid_t(file.split(separator: " ").first.map(String.init) ?? ""))
  }

  /// Stops the API server's process for the time of `body`: connections stay open and nothing answers.
  func pauseServer(_ body: () async throws -> Void) async throws {
    let pid = try pid(of: "kube-apiserver")
    kill(pid, SIGSTOP)
    defer { kill(pid, SIGCONT) }
    try await body()
  }

  /// A command to the container runtime.
  @discardableResult
  func runtime(_ arguments: [String], timeout: Duration = .seconds(30)) throws -> String {
    let socket = try #require(environment["K8S_CONTAINERD"])
    return try Command.mustRun(["ctr", "-a", socket, "-n", "k8s.io"] + arguments, timeout: timeout)
  }

  /// Kills what holds a pod's namespaces, as the kernel's killer of processes might: the kubelet makes a new sandbox.
  func killSandbox(of pod: NodePod) throws {
    let filter =
      "labels.\"io.kubernetes.pod.uid\"==\(pod.uid),labels.\"io.cri-containerd.kind\"==sandbox"
    for sandbox in try runtime(["containers", "ls", "-q", filter]).split(separator: "\n") {
      try runtime(["tasks", "kill", "-s", "SIGKILL", String(sandbox)])
    }
  }

  /// What a power failure and a boot do: all processes but the control plane's are gone, with every namespace and all
  /// that was in `/run`; what is on disk is still there, and the kubelet starts its pods again. Without our daemons.
  func reboot() throws {
    killDaemons()
    for program in ["kubelet", "kube-proxy"] { try end(program) }
    for task in try runtime(["tasks", "ls", "-q"]).split(separator: "\n") {
      _ = try? runtime(["tasks", "delete", "-f", String(task)])
    }
    try end("containerd")
    for path in try podNamespacePaths() {
      _ = try Command.run(["umount", path])
      try? FileManager.default.removeItem(atPath: path)
    }
    let state = URL(fileURLWithPath: try #require(environment["K8S_CONTAINERD"])).deletingLastPathComponent()
      .appending(path: "containerd").path
    let mounts = try String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8).split(separator: "\n")
      .compactMap { $0.split(separator: " ").dropFirst(4).first.map(String.init) }
    for mount in mounts.reversed() where mount.hasPrefix(state + "/") { try Command.mustRun(["umount", mount]) }
    try Command.mustRun(["rm", "-rf", "--one-file-system", state, directory + "/run", socket])
    try start()
  }

  private func end(_ program: String) throws {
    let pid = try pid(of: program)
    kill(pid, SIGKILL)
    // It is not our child: until somebody has reaped it, it looks as if it ran.
    let isGone = eventually(within: .seconds(20)) { kill(pid, 0) == -1 }
    try #require(isGone, "\(program) has ended")
  }
}
