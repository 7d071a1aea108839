import JSON

/// Our plugin's entry in a network's configuration list (enrollment.md §8.2, §9.2).
public struct PluginEntry: Equatable, Sendable {
  /// Both the entry's type and the name of the program.
  public static let type = "ambient-cni"
  /// Istio's own, whose place ours takes.
  public static let istioType = "istio-cni"
  public static let defaultTimeout = 30
  static let timeoutKey = "agent_timeout_seconds"

  public var runDirectory: String
  public var excludedNamespaces: [String]
  public var agentNamespace: String
  /// Seconds the plugin waits for the agent; what the runtime allows is more.
  public var timeout: Int

  public init(
    runDirectory: String = PluginConfiguration.defaultRunDirectory, excludedNamespaces: [String] = [],
    agentNamespace: String = "", timeout: Int = defaultTimeout
  ) {
    self.runDirectory = runDirectory
    self.excludedNamespaces = excludedNamespaces
    self.agentNamespace = agentNamespace
    self.timeout = timeout
  }

  public var json: JSONObject {
    JSONObject([
      .init(key: "name", value: .string(Self.type)),
      .init(key: "type", value: .string(Self.type)),
      .init(key: "cni_agent_run_dir", value: .string(runDirectory)),
      .init(key: "exclude_namespaces", value: .strings(excludedNamespaces)),
      .init(key: "pod_namespace", value: .string(agentNamespace)),
      .init(key: Self.timeoutKey, value: .integer(timeout)),
    ])
  }
}
