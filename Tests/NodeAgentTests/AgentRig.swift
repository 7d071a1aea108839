import Foundation
import JSON
import Linux
import TestSupport
import Testing
import ZDS

/// A node agent as a process, with one workload `shop/web` in a directory of its own.
struct AgentRig {
  let agent: String
  let temporary: TemporaryDirectory
  let process: RunningProcess
  private let pod: TestNamespace

  /// Returns when the agent has written `line`, and at once where that is nil.
  init(
    _ pod: TestNamespace, _ arguments: String..., environment: [String: String] = [:],
    until line: String? = "accepting ztunnels"
  ) throws {
    self.pod = pod
    agent = try #require(BuiltProduct.path("node-agent"))
    temporary = try TemporaryDirectory()
    let all = [
      "AMBIENT_RECONCILE_INTERVAL": "200ms", "AMBIENT_STATE_DIRECTORY": temporary.path + "/state",
      "AMBIENT_STATUS_SOCKET": temporary.path + "/status.sock",
    ].merging(environment) { $1 }
    try Self.write(pod, temporary)
    process = try RunningProcess(
      [agent, "run", "--ztunnel-uds-address", temporary.path + "/z.sock", "--workloads", temporary.path] + arguments,
      environment: all)
    if let line { #expect(process.waitForLine(containing: line) != nil) }
  }

  var socket: UnixSocketPath { get throws { try UnixSocketPath(temporary.path + "/z.sock") } }

  /// Writes the workload's file again.
  func addWorkload() throws { try Self.write(pod, temporary) }

  private static func write(_ pod: TestNamespace, _ temporary: TemporaryDirectory) throws {
    try temporary.write("{name: web, namespace: shop, netns: \(pod.path)}\n", to: "web.yaml")
  }

  func removeWorkload() { temporary.remove("web.yaml") }

  /// Runs `node-agent rules` for the pod.
  func rules(_ arguments: String...) throws -> CommandResult {
    try Command.run([agent, "rules", "--netns", pod.path] + arguments)
  }

  func status(_ arguments: String...) throws -> CommandResult {
    try Command.run([agent, "status", "--socket", temporary.path + "/status.sock"] + arguments)
  }

  func state() throws -> String? {
    let value = try JSONValue.parse(Array(status("--json").output.utf8))
    return value["workloads"]?.array?.first?["state"]?.string
  }
}

/// Ztunnel's side of the agent's socket, which says yes to everything; to be added to.
class PlayedZtunnel: ZDSClientHandler {
  func connected() {}
  func disconnected(_ error: ZDSError) {}
  func dialFailed(_ error: ZDSError, retryIn delay: Duration) {}
  func sockets(of uid: WorkloadUID) -> [SharedDescriptor] { [] }
  func handedOver(_ uid: WorkloadUID) {}
  func take(_ duty: Handover.Duty) async {}
  func follow(
    _ instruction: WorkloadInstruction<NetworkNamespace>, with sockets: [SharedDescriptor]
  ) async -> InstructionAnswer { .acknowledge }
}
