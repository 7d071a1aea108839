/// The environment variables of the reference's agent, most of which its command line knows as flags, too
/// (enrollment.md §10).
public enum AgentVariables {
  /// Those that are flags as well: `CNI_AGENT_RUN_DIR` is `--cni-agent-run-dir`.
  static let withFlag = [
    "MOUNTED_CNI_NET_DIR", "CNI_CONF_NAME", "CNI_NETWORK_CONFIG", "CNI_NETWORK_CONFIG_FILE", "CHAINED_CNI_PLUGIN",
    "ISTIO_OWNED_CNI_CONFIG", "ISTIO_OWNED_CNI_CONFIG_FILENAME", "CNI_AGENT_RUN_DIR", "LOG_LEVEL", "KUBECONFIG_MODE",
    "CNI_CONF_GROUP_READ", "KUBE_CA_FILE", "SKIP_TLS_VERIFY", "MONITORING_PORT", "ZTUNNEL_UDS_ADDRESS",
    "AMBIENT_ENABLED", "REPAIR_ENABLED", "REPAIR_DELETE_PODS", "REPAIR_LABEL_PODS", "REPAIR_BROKEN_POD_LABEL_KEY",
    "REPAIR_BROKEN_POD_LABEL_VALUE", "REPAIR_NODE_NAME", "REPAIR_LABEL_SELECTORS", "REPAIR_FIELD_SELECTORS",
    "REPAIR_SIDECAR_ANNOTATION", "REPAIR_INIT_CONTAINER_NAME", "REPAIR_INIT_CONTAINER_EXIT_CODE",
    "REPAIR_INIT_CONTAINER_TERMINATION_MESSAGE",
  ]

  static let withoutFlag = [
    "ISTIO_OWNED_CNI_CONF_FILENAME", "AMBIENT_ENABLEMENT_SELECTOR", "AMBIENT_DNS_CAPTURE", "AMBIENT_IPV6",
    "AMBIENT_RECONCILE_POD_RULES_ON_STARTUP", "AMBIENT_DISABLE_SAFE_UPGRADE", "ENABLE_AMBIENT_DETECTION_RETRY",
    "NATIVE_NFTABLES", "FORCE_IPTABLES_BINARY", "HOST_PROBE_SNAT_IP", "HOST_PROBE_SNAT_IPV6",
    "AMBIENT_USE_SCOPED_XTABLES_LOCKING", "AMBIENT_ENABLE_AWS_BRANCH_ENI_PROBE", "ALLOW_SWITCH_TO_HOST_NS",
    "KUBERNETES_NODE_NAME", "REPAIR_REPAIR_PODS", "REPAIR_RUN_AS_DAEMON", "EXCLUDE_NAMESPACES", "POD_NAMESPACE",
    "POD_NAME", "NODE_NAME", "REVISION", "SYSTEM_NAMESPACE", "CURRENT_AGENT_VERSION", "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PROTOCOL",
  ]

  /// Our own.
  static let additional = [
    "AMBIENT_FENCE", "AMBIENT_ESCAPE_COUNTER", "AMBIENT_PROBE_MODE", "AMBIENT_STATUS_SOCKET",
    "WORKLOADS_DIRECTORY", "WORKLOAD_SOURCE", "AMBIENT_STATE_DIRECTORY", "AMBIENT_RECONCILE_INTERVAL", "HOST_PROC",
    "KUBECONFIG", "LOG_FORMAT", "JOURNAL_STREAM", "AMBIENT_HEALTH_PORT", "MOUNTED_CNI_BIN_DIR", "AMBIENT_CNI_PROGRAM",
    "AMBIENT_CNI_KUBECONFIG",
    "AMBIENT_SERVICE_ACCOUNT_DIRECTORY", "AMBIENT_TRUST_WATCH",
  ]

  /// All that the agent looks at.
  public static let names = withFlag + withoutFlag + additional
}

/// The command line of the reference's agent, which charts bring with them: flags that are twins of environment variables,
/// and flags of its logging. What is unknown is remembered, not refused: a chart may be newer than this agent.
public struct AgentArguments: Equatable, Sendable {
  /// Environment variables as the flags set them, which win over the process's own.
  public private(set) var variables: [String: String] = [:]
  public private(set) var unknown: [String] = []

  public init(_ arguments: [String]) {
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      guard argument.hasPrefix("--") else {
        unknown.append(argument)
        continue
      }
      let parts = argument.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      var value = parts.count > 1 ? String(parts[1]) : nil
      // A flag without `=` takes the next word, unless that is a flag: then it is a switch.
      if value == nil, let next = rest.first, !next.hasPrefix("-"), !Self.switches.contains(name) {
        value = next
        rest.removeFirst()
      }
      set(name, value ?? "true")
    }
  }

  /// Flags that take no word.
  private static let switches: Set<String> = [
    "log_as_json", "chained-cni-plugin", "istio-owned-cni-config", "cni-conf-group-read", "skip-tls-verify",
    "ambient-enabled", "repair-enabled", "repair-delete-pods", "repair-label-pods",
  ]

  private mutating func set(_ name: String, _ value: String) {
    switch name {
    case "log_as_json": variables["LOG_FORMAT"] = value == "false" ? "plain" : "json"
    case "log_output_level": variables["LOG_LEVEL"] = Self.filter(value)
    // There is nothing to introspect: accepted, so that charts that set them work.
    case "ctrlz_port", "ctrlz_address": break
    default:
      let variable = String(name.map { $0 == "-" ? "_" : $0 }).uppercased()
      if AgentVariables.withFlag.contains(variable) { variables[variable] = value } else { unknown.append("--\(name)") }
    }
  }

  /// `default:info,cni-agent:debug` as this project's filters have it. The agent's own scope is all of this process.
  private static func filter(_ text: String) -> String {
    var levels: [String: String] = [:]
    for clause in text.split(separator: ",") {
      let parts = clause.split(separator: ":", maxSplits: 1).map(String.init)
      switch parts.count {
      case 1: levels["default"] = parts[0]
      case 2: levels[parts[0]] = parts[1]
      default: continue
      }
    }
    let level = levels["cni-agent"] ?? levels["all"] ?? levels["default"] ?? "info"
    return ["none": "off", "fatal": "error", "warning": "warn"][level] ?? level
  }
}
