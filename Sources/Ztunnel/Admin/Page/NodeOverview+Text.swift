import TLS
import Vocabulary

/// One screen for somebody who was woken up. Safe to print.
extension NodeOverview {
  private static let mostPods = 40
  private static let mostProblems = 12

  var text: String {
    let mark = problems.isEmpty ? "OK" : "LOOK: \(problems.count) problem\(problems.count == 1 ? "" : "s")"
    var text = "ztunnel \(version)\(node.map { " on \($0)" } ?? "")  \(mark)\n"
    for problem in problems.prefix(Self.mostProblems) { text += "  ! \(problem)\n" }
    if problems.count > Self.mostProblems { text += "  ! and \(problems.count - Self.mostProblems) more\n" }
    let plane =
      switch isConnected {
      case true?: "connected"
      case false?: "NOT connected"
      case nil: "none: the mesh is a file"
      }
    text += "\ncontrol plane  \(plane)\n"
    text +=
      "mesh           \(Self.counted(workloads, "workload")), \(Self.counted(services, "service")), "
      + "\(Self.counted(policies.count, "policy", "policies"))\n"
    let inbound = pods.reduce(0) { $0 + $1.inbound }
    let outbound = pods.reduce(0) { $0 + $1.outbound }
    let plaintext = pods.reduce(0) { $0 + $1.plaintext }
    text +=
      "connections    \(inbound) in, \(outbound) out; \(plaintext) in plaintext; \(failures) failed or denied so far\n"
    text +=
      "\n"
      + Self.table(
        ["POD", "STATE", "CERTIFICATE", "IN", "OUT", "PLAIN", "IDENTITY"], pods.prefix(Self.mostPods).map(row))
    if pods.count > Self.mostPods { text += "and \(pods.count - Self.mostPods) more pods: --json has them all\n" }
    let busy = policies.filter { $0.denied + $0.allowed + $0.dryRun > 0 }
    if !busy.isEmpty {
      text += "\n" + Self.table(["POLICY", "ACTION", "ALLOWED", "DENIED", "DRY RUN"], busy.prefix(20).map(row))
    }
    if deniedByNone > 0 { text += "\(Self.counted(deniedByNone, "connection")) denied: covered by no ALLOW policy\n" }
    return text.printable
  }

  private func row(_ pod: Pod) -> [String] {
    [
      "\(pod.namespace)/\(pod.name)", pod.isUp ? "served" : "PENDING", certificate(pod), "\(pod.inbound)",
      "\(pod.outbound)",
      "\(pod.plaintext)", pod.workload?.identity.description ?? "UNKNOWN",
    ]
  }

  private func certificate(_ pod: Pod) -> String {
    guard let status = pod.certificate else { return "-" }
    guard let leaf = status.chain.first else { return status.state.label }
    let left = leaf.notAfter.seconds(since: now)
    return left < 0 ? "EXPIRED" : "\(Self.span(left)) left"
  }

  private func row(_ policy: Policy) -> [String] {
    [
      policy.source.key, policy.source.action.rawValue.uppercased() + (policy.source.isDryRun ? " (dry run)" : ""),
      "\(policy.allowed)", "\(policy.denied)", "\(policy.dryRun)",
    ]
  }

  private static func counted(_ count: some BinaryInteger, _ one: String, _ many: String? = nil) -> String {
    "\(count) \(count == 1 ? one : many ?? one + "s")"
  }

  /// Such as `23h` or `4m`.
  static func span(_ seconds: Int64) -> String {
    switch seconds {
    case ..<120: "\(seconds)s"
    case ..<7200: "\(seconds / 60)m"
    case ..<172_800: "\(seconds / 3600)h"
    default: "\(seconds / 86_400)d"
    }
  }

  private static func table(_ header: [String], _ rows: [[String]]) -> String {
    let all = [header] + rows
    let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
    return all.map { row in
      var line = ""
      for (cell, width) in zip(row, widths) { line += cell + String(repeating: " ", count: width - cell.count + 2) }
      while line.last == " " { line.removeLast() }
      return line + "\n"
    }.joined()
  }
}
