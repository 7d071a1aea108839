import JSON

@testable import CNI

/// What a runtime tells the plugin.
enum Inputs {
  static let arguments =
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u-1"

  /// The result of the plugins before ours; its bytes are unlike anything we would write.
  static let previous =
    #"{ "cniVersion":"1.0.0", "zz": [1.50, 1e3], "ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1"}]}"#

  static func variables(
    _ command: String, arguments: String = arguments, namespace: String? = "/var/run/netns/none"
  ) -> [String: String] {
    var variables = [
      "CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
      "CNI_ARGS": arguments,
    ]
    variables["CNI_NETNS"] = namespace
    return variables
  }

  static func configuration(
    version: String? = "1.0.0", previous: String? = previous, runDirectory: String = "/run/none", timeout: Int = 5,
    excluded: [String] = ["kube-system"]
  ) -> String {
    var entry = PluginEntry(
      runDirectory: runDirectory, excludedNamespaces: excluded, agentNamespace: "istio-system", timeout: timeout
    ).json
    entry["cniVersion"] = version.map(JSONValue.string)
    entry["name"] = "podnet"
    let text = JSONValue.object(entry).text
    guard let previous else { return text }
    return text.dropLast() + #","prevResult":\#(previous)}"#
  }
}
