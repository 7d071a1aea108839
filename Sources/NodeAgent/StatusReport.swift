import JSON
import Telemetry

/// What `node-agent status` says: every workload, what is proven about it, and since when.
public struct StatusReport: Equatable, Sendable {
  public var workloads: [EnrolmentProof]
  /// How the node's probes get through, in words.
  public var probes: String

  public init(workloads: [EnrolmentProof], probes: String) {
    self.workloads = workloads
    self.probes = probes
  }

  /// Nothing is left to be hoped for.
  public var isAsWanted: Bool { workloads.allSatisfy(\.code.isAsWanted) }

  /// How many workloads have each code, without those that none has.
  private var counts: [(code: EnrolmentProof.Code, count: Int)] {
    EnrolmentProof.Code.allCases
      .map { code in (code, workloads.count { $0.code == code }) }.filter { $0.count > 0 }
  }

  // MARK: For people

  /// A table, then a line of sums.
  public var text: String {
    let header = ["WORKLOAD", "UID", "STATE", "SINCE", "LAST PROVEN", "ESCAPED", "DETAIL"]
    let rows = [header] + workloads.map(Self.row)
    let widths = header.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    let lines = rows.map { row in
      var line = ""
      for (cell, width) in zip(row, widths) {
        line += cell + String(repeating: " ", count: width - cell.count + 2)
      }
      while line.last == " " { line.removeLast() }
      return line
    }
    let sums = counts.map { "\($0.count) \($0.code.rawValue)" }.joined(separator: ", ")
    return lines.joined(separator: "\n") + "\n\(sums.isEmpty ? "no workloads" : sums); probes: \(probes)\n"
  }

  private static func row(_ proof: EnrolmentProof) -> [String] {
    var details = proof.deviations.prefix(2).map { String($0.prefix(120)) }
    if proof.deviations.count > 2 { details.append("and \(proof.deviations.count - 2) more") }
    if !proof.missingListeners.isEmpty {
      details.append("nobody listens on " + proof.missingListeners.map(String.init).joined(separator: ", "))
    }
    if proof.hasIdentity == false { details.append("ztunnel has no certificate for it") }
    return [
      "\(proof.workload)", proof.uid.text, proof.code.rawValue, second(proof.since),
      proof.lastProven.map(second) ?? "never", proof.escapedPackets.map(String.init) ?? "-",
      details.joined(separator: "; "),
    ]
  }

  private static func second(_ moment: LogTimestamp) -> String { moment.description.prefix(19) + "Z" }

  // MARK: For programs

  public var json: JSONValue {
    .object(
      JSONObject([
        .init(key: "proven", value: .bool(isAsWanted)),
        .init(key: "probes", value: .string(probes)),
        .init(
          key: "states",
          value: .object(JSONObject(counts.map { .init(key: $0.code.rawValue, value: .integer($0.count)) }))),
        .init(key: "workloads", value: .array(workloads.map(Self.json))),
      ]))
  }

  private static func json(_ proof: EnrolmentProof) -> JSONValue {
    .object(
      JSONObject([
        .init(key: "uid", value: .string(proof.uid.text)),
        .init(key: "name", value: .string(proof.workload.name)),
        .init(key: "namespace", value: .string(proof.workload.namespace)),
        .init(key: "serviceAccount", value: .string(proof.workload.serviceAccount)),
        .init(key: "networkNamespace", value: proof.namespace.map { .string("\($0)") } ?? .null),
        .init(key: "state", value: .string(proof.code.rawValue)),
        .init(key: "since", value: .string("\(proof.since)")),
        .init(key: "lastProven", value: proof.lastProven.map { .string("\($0)") } ?? .null),
        .init(
          key: "escapedPackets", value: proof.escapedPackets.map { .integer(Int(clamping: $0)) } ?? .null),
        .init(
          key: "stoppedPackets", value: proof.stoppedPackets.map { .integer(Int(clamping: $0)) } ?? .null),
        .init(key: "missingListeners", value: .array(proof.missingListeners.map { .integer(Int($0)) })),
        .init(key: "identity", value: proof.hasIdentity.map { $0 ? "held" : "missing" } ?? .null),
        .init(key: "deviations", value: .strings(proof.deviations)),
      ]))
  }
}
