import CNI
import Glibc
import Vocabulary

/// Where and how the CNI plugin is installed on the node (enrollment.md §9, §10).
public struct CNISettings: Sendable {
  /// What goes into the kubeconfig on the node.
  public struct Credentials: Sendable {
    public var host: String
    public var port: String
    public var scheme: String
    /// Directory of the service account's `token` and `ca.crt`.
    public var directory: String
    public var authoritiesFile: String?
    public var skipsVerification: Bool
    public var mode: mode_t
  }

  public static let serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

  /// The node's CNI configuration directory, as it is seen from here.
  public var configurationDirectory: String
  /// The node's directory of CNI plugins.
  public var binaryDirectory: String
  /// The plugin's program, to be copied there.
  public var program: String
  /// Directory of the endpoint's socket and the kubeconfig; the same path on the node.
  public var runDirectory: String
  public var mode: InstallationPlan.Mode
  public var entry: PluginEntry
  /// Permissions of a configuration that is made anew.
  public var fileMode: mode_t
  /// Nil: no kubeconfig is written. Our plugin needs none.
  public var credentials: Credentials?
  /// The plugin goes with the agent, whatever the DaemonSet's state (`AMBIENT_DISABLE_SAFE_UPGRADE`).
  public var alwaysCleansUp: Bool

  public var socketPath: String { "\(runDirectory)/\(PluginConfiguration.socketName)" }
  public var kubeconfigPath: String { "\(runDirectory)/istio-cni-kubeconfig" }
  public var installedProgram: String { "\(binaryDirectory)/\(PluginEntry.type)" }

  /// Reads Istio's variables, and a few of our own where Istio has fixed paths. Throws ``ConfigurationError``.
  public init(environment: [String: String]) throws(ConfigurationError) {
    func text(_ name: String, default value: String) -> String {
      environment[name].flatMap { $0.isEmpty ? nil : $0 } ?? value
    }
    configurationDirectory = text("MOUNTED_CNI_NET_DIR", default: "/host/etc/cni/net.d")
    binaryDirectory = text("MOUNTED_CNI_BIN_DIR", default: "/host/opt/cni/bin")
    program = text("AMBIENT_CNI_PROGRAM", default: "/opt/cni/bin/\(PluginEntry.type)")
    runDirectory = text("CNI_AGENT_RUN_DIR", default: PluginConfiguration.defaultRunDirectory)
    for (name, path) in [
      ("MOUNTED_CNI_NET_DIR", configurationDirectory), ("MOUNTED_CNI_BIN_DIR", binaryDirectory),
      ("AMBIENT_CNI_PROGRAM", program), ("CNI_AGENT_RUN_DIR", runDirectory),
    ] where !path.hasPrefix("/") {
      throw ConfigurationError(setting: name, value: path, expected: "an absolute path")
    }
    mode = try Self.mode(environment)
    entry = PluginEntry(
      runDirectory: runDirectory,
      excludedNamespaces: (environment["EXCLUDE_NAMESPACES"] ?? "").split(separator: ",")
        .map { String($0.drop { $0 == " " }.prefix { $0 != " " }) }.filter { !$0.isEmpty },
      agentNamespace: environment["POD_NAMESPACE"] ?? "")
    fileMode = try NodeAgentConfiguration.boolean("CNI_CONF_GROUP_READ", environment, default: false) ? 0o640 : 0o600
    credentials = try Self.credentials(environment)
    alwaysCleansUp = try NodeAgentConfiguration.boolean("AMBIENT_DISABLE_SAFE_UPGRADE", environment, default: false)
  }

  private static func mode(_ environment: [String: String]) throws(ConfigurationError) -> InstallationPlan.Mode {
    let file = try fileName("CNI_CONF_NAME", environment)
    guard try NodeAgentConfiguration.boolean("CHAINED_CNI_PLUGIN", environment, default: true) else {
      return .standalone(file: file ?? InstallationPlan.Mode.defaultStandaloneFile)
    }
    guard try NodeAgentConfiguration.boolean("ISTIO_OWNED_CNI_CONFIG", environment, default: false) else {
      return .chained(file: file)
    }
    // The chart writes one name into its ConfigMap, the agent reads the other (enrollment.md limit 13).
    let named = try fileName("ISTIO_OWNED_CNI_CONFIG_FILENAME", environment)
    let mapped = try fileName("ISTIO_OWNED_CNI_CONF_FILENAME", environment)
    let owned = named ?? mapped ?? InstallationPlan.Mode.defaultOwnedFile
    guard owned.hasSuffix(".conflist") else {
      throw ConfigurationError(
        setting: "ISTIO_OWNED_CNI_CONFIG_FILENAME", value: owned, expected: "the name of a .conflist file")
    }
    return .owned(file: owned)
  }

  private static func fileName(
    _ name: String, _ environment: [String: String]
  ) throws(ConfigurationError) -> String? {
    guard let text = environment[name], !text.isEmpty else { return nil }
    guard !text.contains("/"), NetworkConfiguration.form(ofFile: text) != nil else {
      throw ConfigurationError(
        setting: name, value: text, expected: "the name of a .conf, .json or .conflist file, without a directory")
    }
    return text
  }

  private static func credentials(_ environment: [String: String]) throws(ConfigurationError) -> Credentials? {
    func given(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
    guard try NodeAgentConfiguration.boolean("AMBIENT_CNI_KUBECONFIG", environment, default: true),
      let host = given("KUBERNETES_SERVICE_HOST"), let port = given("KUBERNETES_SERVICE_PORT")
    else { return nil }
    let modeText = given("KUBECONFIG_MODE") ?? "0600"
    guard let mode = mode_t(modeText, radix: 8), mode <= 0o777 else {
      throw ConfigurationError(setting: "KUBECONFIG_MODE", value: modeText, expected: "octal permissions such as 0600")
    }
    return Credentials(
      host: host, port: port, scheme: given("KUBERNETES_SERVICE_PROTOCOL") ?? "https",
      directory: given("AMBIENT_SERVICE_ACCOUNT_DIRECTORY") ?? serviceAccount,
      authoritiesFile: given("KUBE_CA_FILE"),
      skipsVerification: try NodeAgentConfiguration.boolean("SKIP_TLS_VERIFY", environment, default: false), mode: mode)
  }
}
