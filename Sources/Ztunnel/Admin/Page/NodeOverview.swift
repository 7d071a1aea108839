import Identity
import Mesh
import Metrics
import TLS
import Vocabulary
import ZDS

/// What this node's mesh does at one moment: for the page, for `ztunnel status`, for `/status`.
struct NodeOverview: Sendable {
  struct Pod: Sendable {
    var uid: String
    var namespace: String
    var name: String
    var serviceAccount: String
    var isUp: Bool
    /// The pod's record in the mesh; nil while it is not known, and then its connections are denied.
    var workload: Workload?
    var certificate: CertificateStatus?
    /// What the node agent has proven about it; nil where no agent can be asked.
    var proof: EnrolmentProofView?
    var inbound = 0
    var outbound = 0
    var plaintext = 0
    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0
  }

  struct Policy: Sendable {
    var source: AuthorizationPolicy
    var allowed: Int64 = 0
    var denied: Int64 = 0
    var dryRun: Int64 = 0
  }

  var version: String
  var node: String?
  var now: Timestamp
  var isReady: Bool
  var pending: [String]
  var isDraining: Bool
  /// Nil where there is no control plane.
  var isConnected: Bool?
  var workloads: Int
  var services: Int
  var pods: [Pod]
  var policies: [Policy]
  /// Connections that no ALLOW policy covered where there was one.
  var deniedByNone: Int64
  var failures: Int64
  var conditions = NodeConditions.Values(isAgentConnected: true)
  var droppedLogLines: UInt64 = 0
  /// Lines were dropped a short time ago.
  var isDroppingLogLines = false

  /// What is wrong, the worst first; empty when nothing is.
  var problems: [String] {
    var found: [String] = []
    if isDraining { found.append("draining: this ztunnel is on its way out") }
    if !isReady, !isDraining { found.append("not ready, pending: \(pending.joined(separator: ", "))") }
    if isConnected == false { found.append("no connection to the control plane: what is known stays in force") }
    // Until it has come for the first time that is what is pending.
    if isReady, !conditions.isAgentConnected {
      found.append("no connection to the node agent: pods go on being served, but none can come or go")
    }
    if let error = conditions.meshFileError {
      found.append("the mesh file on disk is refused, and an older version in force: \(error)")
    }
    if conditions.podsNotStored > 0 {
      found.append(
        "the descriptor store is full: new connections to \(conditions.podsNotStored) pods are refused while no ztunnel "
          + "runs; see FileDescriptorStoreMax= of the unit")
    }
    if isDroppingLogLines {
      found.append("log lines are dropped, \(droppedLogLines) so far: whoever reads the log is too slow")
    }
    for pod in pods {
      let name = "\(pod.namespace)/\(pod.name)"
      if !pod.isUp { found.append("\(name) cannot be served: its connections are refused") }
      if let proof = pod.proof, !proof.isAsWanted {
        let why = proof.deviations.first.map { ": \($0)" } ?? ""
        found.append("\(name) is \(proof.state) by its node agent\(why)")
      }
      if pod.workload == nil { found.append("\(name) is not known to the mesh: its connections are denied") }
      if case .unavailable(let error) = pod.certificate?.state {
        found.append("\(name) has no certificate: \(error.summary)")
      } else if let error = pod.certificate?.lastError {
        found.append("\(name): its certificate could not be renewed: \(error.summary)")
      }
    }
    return found
  }

  // MARK: For programs

  var json: JSONValue {
    .object([
      "version": .string(version), "node": node.map { .string($0) },
      "now": .integer(now.secondsSinceEpoch), "ready": .boolean(isReady), "pending": .strings(pending),
      "draining": .boolean(isDraining), "controlPlaneConnected": isConnected.map { .boolean($0) },
      "workloads": .integer(Int64(workloads)), "services": .integer(Int64(services)),
      "nodeAgentConnected": .boolean(conditions.isAgentConnected),
      "meshFileError": conditions.meshFileError.map { .string($0) },
      "podsNotStored": .integer(Int64(conditions.podsNotStored)),
      "droppedLogLines": .integer(Int64(clamping: droppedLogLines)),
      "problems": .strings(problems), "failures": .integer(failures), "deniedByNone": .integer(deniedByNone),
      "pods": .array(pods.map(Self.json)), "policies": .array(policies.map(Self.json)),
    ])
  }

  private static func json(_ pod: Pod) -> JSONValue {
    let leaf = pod.certificate?.chain.first
    return .object([
      "uid": .string(pod.uid), "namespace": .string(pod.namespace), "name": .string(pod.name),
      "serviceAccount": .string(pod.serviceAccount), "served": .boolean(pod.isUp),
      "known": .boolean(pod.workload != nil),
      "identity": pod.workload.map { .string($0.identity.description) },
      "addresses": pod.workload.map { .strings($0.addresses.map(\.description)) },
      "protocol": pod.workload.map { $0.tunnelProtocol == .hbone ? "HBONE" : "TCP" },
      "waypoint": pod.workload?.waypoint.map { .string("\($0)") },
      "certificate": pod.certificate.map { status in
        .object([
          "state": .string(status.state.label), "detail": .string(status.state.description),
          "issued": leaf.map { .integer($0.notBefore.secondsSinceEpoch) },
          "expires": leaf.map { .integer($0.notAfter.secondsSinceEpoch) },
          "serial": leaf.map { .string($0.serialNumber) },
          "lastError": status.lastError.map { .string($0.summary) },
        ])
      },
      "proof": pod.proof.map { proof in
        .object([
          "state": .string(proof.state), "since": .string(proof.since),
          "lastProven": proof.lastProven.map { .string($0) },
          "escapedPackets": proof.escapedPackets.map { .integer(Int64($0)) },
          "stoppedPackets": proof.stoppedPackets.map { .integer(Int64($0)) },
          "deviations": .strings(proof.deviations),
        ])
      },
      "inbound": .integer(Int64(pod.inbound)), "outbound": .integer(Int64(pod.outbound)),
      "plaintext": .integer(Int64(pod.plaintext)), "bytesSent": .integer(Int64(clamping: pod.bytesSent)),
      "bytesReceived": .integer(Int64(clamping: pod.bytesReceived)),
    ])
  }

  private static func json(_ policy: Policy) -> JSONValue {
    .object([
      "key": .string(policy.source.key), "action": .string(policy.source.action.rawValue),
      "scope": .string(policy.source.scope.rawValue), "dryRun": .boolean(policy.source.isDryRun),
      "rules": .integer(Int64(policy.source.rules.count)), "allowed": .integer(policy.allowed),
      "denied": .integer(policy.denied), "dryRunHits": .integer(policy.dryRun),
    ])
  }
}
