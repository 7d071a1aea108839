import Kubernetes
import Redirection
import Vocabulary
import ZDS

/// A setting that cannot be used.
public struct ConfigurationError: CodedError, Equatable {
  /// The flag or variable, such as `HOST_PROBE_SNAT_IP`.
  public let setting: String
  public let value: String
  public let expected: String

  public var code: String { "BAD_SETTING" }
  public var summary: String { "\(setting) is `\(value)`, but must be \(expected)" }
}

/// Everything the daemon is told when it starts. Flags win over environment variables, which win over defaults.
public struct NodeAgentConfiguration: Sendable {
  /// What may be given on the command line; nil: not given.
  public struct Flags: Sendable {
    public var socketPath: String?
    public var workloads: String?
    /// Where workloads come from: `directory` or `kubernetes`.
    public var source: String?
    public var kubeconfig: String?
    public var cleanupOnExit = false

    public init() {}
  }

  public static let defaultSocketPath = "/var/run/ztunnel/ztunnel.sock"
  public static let defaultWorkloads = "/etc/ambient/workloads.d"
  public static let defaultStateDirectory = "/run/ambient/node-agent"

  /// Where workloads come from. Never from both: each would take out of the mesh what only the other knows.
  public enum Source: Sendable, CustomStringConvertible {
    /// The path of a directory of files.
    case directory(String)
    case kubernetes(KubernetesSettings)

    public var description: String {
      switch self {
      case .directory(let path): path
      case .kubernetes(let settings): "\(settings.access.server)"
      }
    }
  }

  public let socketPath: UnixSocketPath
  public let source: Source
  /// Where files are remembered across restarts. It must not outlive a reboot, which ends all namespaces.
  public let stateDirectory: String
  public let redirection: RedirectionSettings
  /// Between two proofs of every enrolled namespace.
  public let reconcileInterval: Duration
  public let cleanupOnExit: Bool
  /// The CNI plugin, where pods are made by a container runtime; nil elsewhere.
  public let cni: CNISettings?
  /// Of metrics, `MONITORING_PORT`; 0 is none.
  public let monitoringPort: UInt16
  /// Of health and readiness, `AMBIENT_HEALTH_PORT`; 0 is none.
  public let healthPort: UInt16
  /// Cuts off workloads that cannot be proven to be captured.
  public let fences: Bool
  public let probeMode: ProbeMode
  /// Where `node-agent status` asks.
  public let statusSocket: String
  /// The node's network namespace; nil: the agent's own.
  public let hostNamespace: String?

  /// How kubelet's probes get past ztunnel.
  public enum ProbeMode: String, Sendable, CaseIterable {
    /// A rule on the node marks them by their source (redirection.md §8).
    case host
    /// Rules in the pod know them by their hop limit; their source is left as it is.
    case inPod = "in-pod"
    /// Nothing is done.
    case off
  }

  public static let defaultStatusSocket = "/run/ambient/node-agent.sock"

  /// Throws ``ConfigurationError``.
  public init(flags: Flags = .init(), environment: [String: String]) throws(ConfigurationError) {
    let socket = flags.socketPath ?? environment["ZTUNNEL_UDS_ADDRESS"] ?? Self.defaultSocketPath
    do { socketPath = try UnixSocketPath(socket) } catch {
      throw ConfigurationError(
        setting: "ZTUNNEL_UDS_ADDRESS", value: socket, expected: "a path of 1 to \(UnixSocketPath.maximumLength) bytes")
    }
    source = try Self.source(flags, environment)
    stateDirectory = try Self.stateDirectory(source, environment)
    redirection = try Self.redirection(environment)
    reconcileInterval = try Self.duration("AMBIENT_RECONCILE_INTERVAL", environment, default: .seconds(30))
    guard reconcileInterval >= .milliseconds(100) else {
      throw ConfigurationError(
        setting: "AMBIENT_RECONCILE_INTERVAL", value: environment["AMBIENT_RECONCILE_INTERVAL"] ?? "",
        expected: "at least 100ms")
    }
    cleanupOnExit = flags.cleanupOnExit
    fences = try Self.fences(environment)
    statusSocket = environment["AMBIENT_STATUS_SOCKET"] ?? Self.defaultStatusSocket
    guard statusSocket.hasPrefix("/") else {
      throw ConfigurationError(setting: "AMBIENT_STATUS_SOCKET", value: statusSocket, expected: "an absolute path")
    }
    // Where no kubelet probes, nobody's packets are to be touched.
    let standardMode: ProbeMode = if case .kubernetes = source { .host } else { .off }
    let mode = environment["AMBIENT_PROBE_MODE"] ?? ""
    guard let probeMode = mode.isEmpty ? standardMode : ProbeMode(rawValue: mode) else {
      throw ConfigurationError(
        setting: "AMBIENT_PROBE_MODE", value: mode,
        expected: ProbeMode.allCases.map(\.rawValue).joined(separator: " or "))
    }
    self.probeMode = probeMode
    hostNamespace =
      try Self.boolean("ALLOW_SWITCH_TO_HOST_NS", environment, default: false)
      ? "\(environment["HOST_PROC"] ?? "/host/proc")/1/ns/net" : nil
    monitoringPort = try Self.port("MONITORING_PORT", environment, default: 15014)
    healthPort = try Self.port("AMBIENT_HEALTH_PORT", environment, default: 8000)
    cni = if case .kubernetes = source { try CNISettings(environment: environment) } else { nil }
  }

  private static func source(_ flags: Flags, _ environment: [String: String]) throws(ConfigurationError) -> Source {
    let directory = flags.workloads ?? environment["WORKLOADS_DIRECTORY"]
    let ambient = try boolean("AMBIENT_ENABLED", environment, default: false)
    switch flags.source ?? environment["WORKLOAD_SOURCE"] {
    case "directory"?:
      guard !ambient else {
        throw ConfigurationError(
          setting: "--source", value: "directory", expected: "kubernetes, or AMBIENT_ENABLED must not be true")
      }
      return try self.directory(directory)
    case "kubernetes"?: break
    case nil:
      let isWanted = ambient || flags.kubeconfig != nil
      let isInPod = ClusterAccess.isInCluster(environment) && environment["AMBIENT_ENABLED"] == nil
      guard isWanted || (isInPod && directory == nil) else { return try self.directory(directory) }
    case let other?:
      throw ConfigurationError(setting: "--source", value: other, expected: "directory or kubernetes")
    }
    guard directory == nil else {
      throw ConfigurationError(
        setting: "WORKLOADS_DIRECTORY", value: directory ?? "", expected: "absent when workloads come from Kubernetes")
    }
    return .kubernetes(try KubernetesSettings(environment, kubeconfig: flags.kubeconfig))
  }

  private static func directory(_ path: String?) throws(ConfigurationError) -> Source {
    let path = path ?? defaultWorkloads
    guard !path.isEmpty else {
      throw ConfigurationError(setting: "WORKLOADS_DIRECTORY", value: "", expected: "the path of a directory")
    }
    return .directory(path)
  }

  private static func stateDirectory(
    _ source: Source, _ environment: [String: String]
  ) throws(ConfigurationError) -> String {
    let standard =
      switch source {
      case .directory: defaultStateDirectory
      // The one directory of the node that a DaemonSet's agent has and that a reboot empties.
      case .kubernetes: "\(environment["CNI_AGENT_RUN_DIR"] ?? "/var/run/istio-cni")/ambient"
      }
    let state = environment["AMBIENT_STATE_DIRECTORY"] ?? standard
    guard state.hasPrefix("/") else {
      throw ConfigurationError(setting: "AMBIENT_STATE_DIRECTORY", value: state, expected: "an absolute path")
    }
    switch source {
    // One for each directory of workloads, so that another one's files are not taken for removed.
    case .directory(let path): return "\(state)/\(path.split(separator: "/").joined(separator: "-"))"
    case .kubernetes: return state
    }
  }

  /// The redirection of a workload that wishes nothing of its own (redirection.md §2). Throws ``ConfigurationError``.
  public static func redirection(_ environment: [String: String]) throws(ConfigurationError) -> RedirectionSettings {
    RedirectionSettings(
      dnsCapture: try boolean("AMBIENT_DNS_CAPTURE", environment, default: false),
      ipv6: try boolean("AMBIENT_IPV6", environment, default: true),
      countsEscapes: try boolean("AMBIENT_ESCAPE_COUNTER", environment, default: true),
      stopsEscapes: try fences(environment),
      probeSourceV4: try address(
        "HOST_PROBE_SNAT_IP", environment, .v4, default: RedirectionSettings.defaultProbeSourceV4),
      probeSourceV6: try address(
        "HOST_PROBE_SNAT_IPV6", environment, .v6, default: RedirectionSettings.defaultProbeSourceV6))
  }

  /// Whether what is not captured is cut off, rather than left to pass. Throws ``ConfigurationError``.
  private static func fences(_ environment: [String: String]) throws(ConfigurationError) -> Bool {
    try boolean("AMBIENT_FENCE", environment, default: true)
  }

  // MARK: Values

  static func boolean(
    _ name: String, _ environment: [String: String], default value: Bool
  ) throws(ConfigurationError) -> Bool {
    guard let text = environment[name], !text.isEmpty else { return value }
    do { return try CaptureAnnotations.boolean(text) } catch {
      throw ConfigurationError(setting: name, value: text, expected: "true or false")
    }
  }

  /// Numbers below 1 mean none (enrollment.md §10).
  private static func port(
    _ name: String, _ environment: [String: String], default value: UInt16
  ) throws(ConfigurationError) -> UInt16 {
    guard let text = environment[name], !text.isEmpty else { return value }
    guard let number = Int(text), let port = UInt16(exactly: max(0, number)) else {
      throw ConfigurationError(setting: name, value: text, expected: "a port, or 0 for none")
    }
    return port
  }

  private static func address(
    _ name: String, _ environment: [String: String], _ family: IPAddress.Family, default value: IPAddress
  ) throws(ConfigurationError) -> IPAddress {
    guard let text = environment[name], !text.isEmpty else { return value }
    guard let address = IPAddress(text), address.family == family else {
      throw ConfigurationError(setting: name, value: text, expected: "an address of IP\(family)")
    }
    return address
  }

  private static func duration(
    _ name: String, _ environment: [String: String], default value: Duration
  ) throws(ConfigurationError) -> Duration {
    guard let text = environment[name], !text.isEmpty else { return value }
    guard let duration = DurationText.parse(text) else {
      throw ConfigurationError(setting: name, value: text, expected: "a duration such as 30s, 5m or 1h30m")
    }
    return duration
  }
}

extension NodeAgentConfiguration {
  /// The node's `/proc`, in which processes of workloads are looked for.
  var proc: String {
    switch source {
    case .directory: "/proc"
    case .kubernetes(let settings): settings.proc
    }
  }
}
