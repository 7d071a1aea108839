import Kubernetes
import Testing

@testable import NodeAgent

@Suite("Settings of the node agent in Kubernetes")
struct KubernetesConfigurationTests {
  private static let pod = ["KUBERNETES_SERVICE_HOST": "10.96.0.1", "NODE_NAME": "n1"]

  private static func configuration(_ environment: [String: String], source: String? = nil, workloads: String? = nil)
    throws -> NodeAgentConfiguration
  {
    var flags = NodeAgentConfiguration.Flags()
    flags.source = source
    flags.workloads = workloads
    return try NodeAgentConfiguration(flags: flags, environment: environment)
  }

  @Test("a pod's environment means Kubernetes, a directory means files, and either can be said")
  func source() throws {
    #expect(try Self.configuration(Self.pod).kubernetes?.nodeName == "n1")
    #expect(try Self.configuration(Self.pod.merging(["AMBIENT_ENABLED": "true"]) { $1 }).kubernetes != nil)
    #expect(try Self.configuration(Self.pod, workloads: "/w").directory == "/w")
    #expect(try Self.configuration(Self.pod, source: "directory").directory == "/etc/ambient/workloads.d")
    #expect(try Self.configuration([:]).directory != nil)
  }

  @Test("kubelet's probes get through wherever pods come from Kubernetes, also when the agent is no pod itself")
  func probes() throws {
    #expect(try Self.configuration(Self.pod).probeMode == .host)
    let file = try TemporaryDirectory()
    try file.write(
      """
      {"clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}}],"users":[{"name":"u","user":{}}],
       "contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],"current-context":"x"}
      """, to: "kubeconfig")
    let outside = ["NODE_NAME": "n1", "KUBECONFIG": file.path + "/kubeconfig"]
    #expect(try Self.configuration(outside, source: "kubernetes").probeMode == .host)
    #expect(try Self.configuration(Self.pod, workloads: "/w").probeMode == .off)
    #expect(try Self.configuration(Self.pod.merging(["AMBIENT_PROBE_MODE": "off"]) { $1 }).probeMode == .off)
  }

  @Test("what survives the agent lies where a DaemonSet has a directory of the node")
  func state() throws {
    #expect(try Self.configuration(Self.pod).stateDirectory == "/var/run/istio-cni/ambient")
  }

  @Test(
    "sources that contradict each other, and settings that are missing, are refused by name",
    arguments: [
      (["AMBIENT_ENABLED": "true"], nil, "/w", "WORKLOADS_DIRECTORY"),
      (["AMBIENT_ENABLED": "true"], "directory", nil, "--source"),
      ([:], "files", nil, "--source"), (["NODE_NAME": ""], nil, nil, "NODE_NAME"),
      (["NODE_NAME": "a,b"], nil, nil, "NODE_NAME"),
      (["KUBERNETES_SERVICE_HOST": ""], "kubernetes", nil, "KUBECONFIG"),
      (["KUBECONFIG": "/does/not/exist"], nil, nil, "KUBECONFIG"),
      (["AMBIENT_ENABLEMENT_SELECTOR": "[1]"], nil, nil, "AMBIENT_ENABLEMENT_SELECTOR"),
      (["REPAIR_DELETE_PODS": "maybe"], nil, nil, "REPAIR_DELETE_PODS"),
      (["REPAIR_LABEL_SELECTORS": "a in (b)"], nil, nil, "REPAIR_LABEL_SELECTORS"),
    ] as [([String: String], String?, String?, String)])
  func refused(environment: [String: String], source: String?, workloads: String?, setting: String) {
    let error = #expect(throws: ConfigurationError.self) {
      try Self.configuration(Self.pod.merging(environment) { $1 }, source: source, workloads: workloads)
    }
    #expect(error?.setting == setting)
  }

  @Test("exclusions and selectors are read; set and empty selects nothing, not set means the label")
  func rules() throws {
    let rules = try #require(
      try Self.configuration(Self.pod.merging(["EXCLUDE_NAMESPACES": "kube-system, a"]) { $1 }).kubernetes
    ).rules
    #expect(rules.excludedNamespaces == ["kube-system", "a"])
    #expect(rules.selectors == EnablementSelector.standard)
    let none = try Self.configuration(Self.pod.merging(["AMBIENT_ENABLEMENT_SELECTOR": ""]) { $1 })
    #expect(none.kubernetes?.rules.selectors == [])
  }

  @Test("the chart's command line is understood, and flags are twins of variables")
  func arguments() {
    let arguments = AgentArguments([
      "--log_output_level=info,cni-agent:debug", "--log_as_json", "--ambient-enabled", "--cni-agent-run-dir", "/x",
      "--repair-node-name=n", "--ctrlz_port", "9876", "--brand-new-flag=1", "word",
    ])
    #expect(
      arguments.variables == [
        "LOG_LEVEL": "debug", "LOG_FORMAT": "json", "AMBIENT_ENABLED": "true", "CNI_AGENT_RUN_DIR": "/x",
        "REPAIR_NODE_NAME": "n",
      ])
    #expect(arguments.unknown == ["--brand-new-flag", "word"])
  }
}
