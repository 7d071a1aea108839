import Kubernetes

/// What the agent is told about the cluster whose pods it enrols (enrollment.md §10).
public struct KubernetesSettings: Sendable {
  public let access: ClusterAccess
  public let nodeName: String
  public let rules: EnrolmentRules
  /// The node's `/proc`.
  public let proc: String
  /// What stands in front of the node's own paths to make them this process's: empty, or `/host` in a container.
  public let hostRoot: String
  public let repair: RepairSettings?
  /// A pod starts uncaptured on the watch's word that no label asks for the mesh, when the API server cannot be asked.
  public let trustsWatch: Bool

  init(
    access: ClusterAccess, nodeName: String, rules: EnrolmentRules, proc: String = "/proc", hostRoot: String = "",
    repair: RepairSettings? = nil, trustsWatch: Bool = false
  ) {
    self.access = access
    self.nodeName = nodeName
    self.rules = rules
    self.proc = proc
    self.hostRoot = hostRoot
    self.repair = repair
    self.trustsWatch = trustsWatch
  }

  /// Throws ``ConfigurationError``.
  init(_ environment: [String: String], kubeconfig: String?) throws(ConfigurationError) {
    func value(_ name: String) -> String { environment[name] ?? "" }
    do throws(KubernetesError) {
      if let path = kubeconfig ?? environment["KUBECONFIG"], !path.isEmpty {
        access = try Kubeconfig.load(path)
      } else {
        access = try ClusterAccess.inCluster(environment)
      }
    } catch {
      throw ConfigurationError(
        setting: kubeconfig == nil ? "KUBECONFIG" : "--kubeconfig", value: kubeconfig ?? value("KUBECONFIG"),
        expected: "a way to the API server: \(error.summary)")
    }
    nodeName = value("NODE_NAME")
    guard !nodeName.isEmpty, nodeName.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: ",") }) else {
      throw ConfigurationError(setting: "NODE_NAME", value: nodeName, expected: "the name of this node's Node object")
    }
    let selectors: [EnablementSelector]
    do throws(EnablementSelectorText.Refusal) {
      // Set and empty selects nothing, as the reference has it; not set at all is for those who run without a chart.
      selectors =
        try environment["AMBIENT_ENABLEMENT_SELECTOR"].map(EnablementSelectorText.parse) ?? EnablementSelector.standard
    } catch {
      throw ConfigurationError(
        setting: "AMBIENT_ENABLEMENT_SELECTOR", value: String(value("AMBIENT_ENABLEMENT_SELECTOR").prefix(200)),
        expected: "a list of selectors: \(error.reason)")
    }
    let excluded = value("EXCLUDE_NAMESPACES").split(separator: ",").map { $0.trimmingSpaces() }.filter { !$0.isEmpty }
    let system = value("SYSTEM_NAMESPACE")
    rules = EnrolmentRules(
      selectors: selectors, excludedNamespaces: Set(excluded),
      systemNamespace: system.isEmpty ? "istio-system" : system)
    proc = Self.proc(environment)
    hostRoot = proc == "/host/proc" ? "/host" : ""
    repair = try RepairSettings(environment)
    trustsWatch = try NodeAgentConfiguration.boolean("AMBIENT_TRUST_WATCH", environment, default: false)
  }

  /// The node's `/proc` as this process sees it: mounted at `/host/proc` in a container.
  static func proc(_ environment: [String: String]) -> String {
    if let path = environment["HOST_PROC"], path.hasPrefix("/") { return path }
    return FileSystem.isDirectory("/host/proc/1") ? "/host/proc" : "/proc"
  }
}
