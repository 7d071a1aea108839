import Testing

@testable import CNI

@Suite("What the runtime tells the plugin")
struct PluginInputTests {
  @Test("CNI_ARGS name the pod")
  func arguments() throws {
    let arguments = try CNIArguments(Inputs.arguments)
    #expect(arguments.podNamespace == "shop")
    #expect(arguments.podName == "web-1")
    #expect(arguments.podUID == "u-1")
  }

  @Test("a value of CNI_ARGS may hold an equals sign, and may be empty")
  func oddValues() throws {
    #expect(try CNIArguments("K8S_POD_NAME=a=b").podName == "a=b")
    #expect(try CNIArguments("K8S_POD_UID=;;").podUID == nil)
  }

  @Test("other keys are an error unless they are to be ignored", arguments: ["1", "true", "True"])
  func unknownKeys(yes: String) throws {
    #expect(try CNIArguments("X=1;IgnoreUnknown=\(yes);K8S_POD_NAME=p").podName == "p")
    #expect(throws: CNIError.self) { try CNIArguments("X=1") }
    #expect(throws: CNIError.self) { try CNIArguments("X=1;IgnoreUnknown=0") }
  }

  @Test("CNI_ARGS that are no pairs are refused", arguments: ["K8S_POD_NAME", "IgnoreUnknown=perhaps", "a;b"])
  func malformedArguments(text: String) {
    #expect(throws: CNIError.self) { try CNIArguments(text) }
  }

  @Test("everything that is missing is named at once")
  func missingVariables() {
    #expect(
      throws: CNIError.environment([
        "CNI_CONTAINERID is missing", "CNI_IFNAME is missing", "CNI_PATH is missing", "CNI_NETNS is missing",
      ])
    ) { try CNIEnvironment(["CNI_COMMAND": "ADD"]) }
  }

  @Test("DEL needs no namespace: it may be gone")
  func deleteWithoutNamespace() throws {
    #expect(try CNIEnvironment(Inputs.variables("DEL", namespace: nil)).networkNamespace == nil)
  }

  @Test("VERSION, GC and STATUS belong to no container", arguments: ["VERSION", "GC", "STATUS"])
  func containerless(command: String) throws {
    #expect(try CNIEnvironment(["CNI_COMMAND": command]).containerID == "")
  }

  @Test(
    "names that cannot be are refused",
    arguments: [
      ("CNI_COMMAND", "MAKE"), ("CNI_CONTAINERID", "../x"), ("CNI_CONTAINERID", "-x"), ("CNI_IFNAME", ".."),
      ("CNI_IFNAME", "a/b"), ("CNI_IFNAME", "a:b"), ("CNI_IFNAME", "0123456789abcdef"), ("CNI_IFNAME", "a b"),
    ])
  func refusedNames(name: String, value: String) {
    var variables = Inputs.variables("ADD")
    variables[name] = value
    #expect(throws: CNIError.self) { try CNIEnvironment(variables) }
  }

  @Test("a configuration is read")
  func configuration() throws {
    let configuration = try PluginConfiguration(input: Array(Inputs.configuration().utf8))
    #expect(configuration.version == .v1_0_0)
    #expect(configuration.socketPath == "/run/none/pluginevent.sock")
    #expect(configuration.excludedNamespaces == ["kube-system"])
    #expect(configuration.agentNamespace == "istio-system")
    #expect(configuration.timeout == 5)
    #expect(configuration.previousResult == Array(Inputs.previous.utf8))
  }

  @Test("what is absent has the reference's defaults")
  func defaults() throws {
    let configuration = try PluginConfiguration(input: Array(#"{"name":"n","type":"ambient-cni"}"#.utf8))
    #expect(configuration.version == .v0_1_0)
    #expect(configuration.socketPath == "/var/run/istio-cni/pluginevent.sock")
    #expect(configuration.excludedNamespaces == [])
    #expect(configuration.previousResult == nil)
  }

  @Test(
    "a malformed configuration has the specification's number of what is wrong",
    arguments: [
      ("", 6), ("{", 6), ("[]", 6), ("\u{0}", 6), (#"{"name":"n","prevResult":3}"#, 6),
      (#"{"name":"n","cniVersion":"9.9.9"}"#, 1), (#"{"name":"n","cniVersion":1}"#, 7), (#"{"cniVersion":"1.0.0"}"#, 7),
      (#"{"name":"a/b"}"#, 7), (#"{"name":"n","exclude_namespaces":"kube-system"}"#, 7),
      (#"{"name":"n","exclude_namespaces":[1]}"#, 7), (#"{"name":"n","cni_agent_run_dir":[]}"#, 7),
      (#"{"name":"n","agent_timeout_seconds":0}"#, 7), (#"{"name":"n","agent_timeout_seconds":"5"}"#, 7),
    ])
  func malformed(text: String, number: Int) {
    do throws(CNIError) {
      _ = try PluginConfiguration(input: Array(text.utf8))
      Issue.record("\(text) was taken")
    } catch { #expect(error.number == number) }
  }

  @Test("null is as good as absent")
  func nulls() throws {
    let text = #"{"name":"n","exclude_namespaces":null,"prevResult":null,"cniVersion":null,"pod_namespace":null}"#
    let configuration = try PluginConfiguration(input: Array(text.utf8))
    #expect(configuration.excludedNamespaces == [])
    #expect(configuration.previousResult == nil)
  }
}
