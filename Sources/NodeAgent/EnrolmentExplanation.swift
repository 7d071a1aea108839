import JSON
import Vocabulary

/// Why a pod is captured, or not: what the agent has proven about it, and what to do about it.
public struct EnrolmentExplanation: Equatable, Sendable {
  /// What it comes to, for scripts.
  public enum Outcome: Int32, Sendable {
    /// Captured, proven and served.
    case captured = 0
    /// Its traffic is cut, or not looked after yet; nothing leaves in plaintext.
    case cutOff = 1
    /// Its traffic leaves as it is.
    case plaintext = 2
    /// The agent does not know it.
    case unknown = 3
  }

  public var outcome: Outcome
  public var text: String
  public var json: JSONValue

  /// Answers about `pod` from the JSON of a status: by `namespace/name`, by uid, or by a name that only one has.
  public init(pod: String, status: JSONValue) {
    let all = status["workloads"]?.array ?? []
    let exact = all.filter { Self.name($0) == pod || $0["uid"]?.string == pod }
    let found = exact.isEmpty ? all.filter { $0["name"]?.string == pod } : exact
    guard found.count == 1, let workload = found.first else {
      outcome = .unknown
      var lines = [
        found.isEmpty
          ? "\(pod): no workload of this node is called so" : "\(pod): \(found.count) workloads are called so"
      ]
      let near = (found.isEmpty ? all.filter { $0["name"]?.string?.hasPrefix(pod.prefix(4)) == true } : found).prefix(5)
      if near.isEmpty {
        lines += Self.list([
          "is it on this node? kubectl get pod -o wide, or look into the workloads' directory",
          "does it ask for the mesh? label istio.io/dataplane-mode=ambient on pod or namespace; not on hostNetwork, not with a sidecar",
        ])
      } else {
        lines += Self.list(near.map { "meant was perhaps \(Self.name($0))" })
      }
      text = (lines.joined(separator: "\n") + "\n").printable
      json = .object(
        JSONObject([
          .init(key: "pod", value: .string(pod)), .init(key: "outcome", value: "unknown"),
          .init(key: "check", value: .strings(lines.dropFirst().map { String($0.drop { " -".contains($0) }) })),
        ]))
      return
    }
    let state = EnrolmentProof.Code(rawValue: workload["state"]?.string ?? "")
    outcome = Self.outcome(of: state)
    let (verdict, checks) = Self.verdict(state, workload)
    let deviations = workload["deviations"]?.array?.compactMap(\.string) ?? []
    var lines = ["\(Self.name(workload)): \(verdict)", ""]
    func fact(_ name: String, _ value: String?) {
      if let value { lines.append("  \(name)\(String(repeating: " ", count: max(1, 16 - name.count)))\(value)") }
    }
    fact("state", workload["state"]?.string.map { "\($0) since \(workload["since"]?.string ?? "?")" })
    fact("last proven", workload["lastProven"]?.string ?? "never")
    fact("namespace", workload["networkNamespace"]?.string ?? "not known")
    fact("uid", workload["uid"]?.string)
    fact("service account", workload["serviceAccount"]?.string)
    fact("escaped packets", workload["escapedPackets"]?.integer.map(String.init))
    fact("stopped packets", workload["stoppedPackets"]?.integer.map(String.init))
    fact("certificate", workload["identity"]?.string)
    let missing = workload["missingListeners"]?.array?.compactMap(\.integer) ?? []
    if !missing.isEmpty { fact("nobody listens", missing.map(String.init).joined(separator: ", ")) }
    for deviation in deviations.prefix(20) { fact("differs", deviation) }
    if !checks.isEmpty { lines += ["", "what to check"] + Self.list(checks) }
    text = (lines.joined(separator: "\n") + "\n").printable
    json = .object(
      JSONObject([
        .init(key: "pod", value: .string(Self.name(workload))),
        .init(key: "outcome", value: .string(Self.word(outcome))),
        .init(key: "reason", value: .string(verdict)), .init(key: "proof", value: workload),
        .init(key: "check", value: .strings(checks)),
      ]))
  }

  private static func name(_ workload: JSONValue) -> String {
    "\(workload["namespace"]?.string ?? "")/\(workload["name"]?.string ?? "")"
  }

  private static func list(_ items: some Sequence<String>) -> [String] { items.map { "  - \($0)" } }

  private static func word(_ outcome: Outcome) -> String {
    switch outcome {
    case .captured: "captured"
    case .cutOff: "cut off"
    case .plaintext: "plaintext"
    case .unknown: "unknown"
    }
  }

  private static func outcome(of state: EnrolmentProof.Code?) -> Outcome {
    switch state {
    case .proven: .captured
    case .pending, .fenced: .cutOff
    case .waiting, .leaving: .cutOff
    case .exposed, .outside: .plaintext
    case nil: .unknown
    }
  }

  private static func verdict(_ state: EnrolmentProof.Code?, _ workload: JSONValue) -> (String, [String]) {
    let escaped = workload["escapedPackets"]?.integer ?? 0
    let stopped = workload["stoppedPackets"]?.integer ?? 0
    let rules = "look at its rules: node-agent rules --check --netns PATH"
    switch state {
    case .proven:
      if escaped == 0, stopped > 0 {
        return (
          "captured; packets that would have gone past ztunnel were stopped, none got through",
          ["somebody changed its rules meanwhile, and they were repaired: its events and the agent's log say when"]
        )
      }
      guard escaped > 0 else { return ("captured: its rules were read back equal, and ztunnel listens inside", []) }
      return (
        "captured, but packets have left it past ztunnel",
        ["they are those of before its enrolment, or somebody changed its rules meanwhile", rules]
      )
    case .pending where workload["identity"]?.string == "missing":
      return (
        "pending: captured, but ztunnel has no certificate for it, so that its connections are refused",
        [
          "ztunnel's log: \"identity\"; the certificates on its page",
          "does the mesh know the pod, on this node, with this service account? ztunnel explain",
        ]
      )
    case .pending:
      return (
        "pending: captured, but no ztunnel serves it, so that its connections are refused",
        [
          "does ztunnel run, and share the socket? ztunnel status", "ztunnel's log: \"pod cannot be served\"",
          "the agent's log: connections of ztunnel",
        ]
      )
    case .fenced:
      return (
        "fenced: its rules could not be proven, so that all of its traffic is cut off",
        [rules, "who else writes rules into it? another agent, a CNI plugin, the pod itself with NET_ADMIN"]
      )
    case .exposed:
      return (
        "EXPOSED: its rules could not be proven, and nothing cuts it off: it may send plaintext",
        [rules, "the agent's log says why the fence is not there"]
      )
    case .waiting:
      return (
        "waiting: its network namespace is not there yet",
        ["does the pod run? its path or process id in the workload file; the agent needs to see /proc and /run/netns"]
      )
    case .leaving: return ("leaving the mesh: ztunnel is told first, its rules go then", [])
    case .outside:
      return (
        "not captured, on purpose",
        ["to bring it in: mesh: true in its workload file, or the label istio.io/dataplane-mode=ambient"]
      )
    case nil: return ("in a state that this program does not know: is the agent newer?", [])
    }
  }
}
