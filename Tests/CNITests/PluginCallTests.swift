import JSON
import Testing

@testable import CNI

@Suite("A call of the plugin")
struct PluginCallTests {
  private func call(
    _ command: String, _ configuration: String = Inputs.configuration(), arguments: String = Inputs.arguments
  ) throws -> PluginCall {
    try PluginCall(variables: Inputs.variables(command, arguments: arguments), input: Array(configuration.utf8))
  }

  private func inquiry(_ step: PluginCall.Step) -> PluginCall.Inquiry? {
    if case .ask(let inquiry) = step { inquiry } else { nil }
  }

  private func output(_ step: PluginCall.Step) -> PluginCall.Output? {
    if case .finish(let output) = step { output } else { nil }
  }

  @Test("ADD asks the agent about the pod by its UID, with what other plugins gave it")
  func add() throws {
    let inquiry = try #require(inquiry(try call("ADD").begin { _ in false }))
    #expect(inquiry.subject == .admit)
    #expect(inquiry.socketPath == "/run/none/pluginevent.sock")
    #expect(inquiry.timeout == 5)
    #expect(
      inquiry.question
        == AgentQuestion(
          podNamespace: "shop", podName: "web-1", podUID: "u-1", containerID: "c1",
          networkNamespace: "/var/run/netns/none", addresses: ["10.1.2.3"], timeout: 5000))
  }

  @Test(
    "the agent's yes lets the pod start with the result of the plugins before",
    arguments: [AgentAnswer.captured, .notInMesh(reason: "no label")])
  func admitted(answer: AgentAnswer) throws {
    let call = try call("ADD")
    let inquiry = try #require(inquiry(try call.begin { _ in false }))
    let output = try call.conclude(inquiry, .answered(answer))
    #expect(output == PluginCall.Output(output: Array(Inputs.previous.utf8)))
  }

  @Test("the agent's no, and its absence, keep the pod from starting")
  func refused() throws {
    let call = try call("ADD")
    let inquiry = try #require(inquiry(try call.begin { _ in false }))
    let refusal = CNIError.agentRefused(pod: "shop/web-1", code: "X", message: "m")
    #expect(throws: refusal) { try call.conclude(inquiry, .answered(.refused(code: "X", message: "m"))) }
    let away = CNIError.agentAway(socket: "/run/none/pluginevent.sock", reason: "r")
    #expect(throws: away) { try call.conclude(inquiry, .unanswered("r")) }
    #expect(away.number == 11)
  }

  @Test(
    "pods of excluded namespaces, the agent's own and what is no pod need no agent",
    arguments: [
      "IgnoreUnknown=1;K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=coredns-1",
      "IgnoreUnknown=1;K8S_POD_NAMESPACE=istio-system;K8S_POD_NAME=istio-cni-node-x7k2p", "", "IgnoreUnknown=1",
      "K8S_POD_NAME=only-a-name",
    ])
  func exempt(arguments: String) throws {
    for command in ["ADD", "CHECK", "DEL"] {
      let output = try #require(output(try call(command, arguments: arguments).begin { _ in false }))
      #expect(output == PluginCall.Output(output: command == "ADD" ? Array(Inputs.previous.utf8) : []))
    }
  }

  @Test("the agent's name in another namespace opens no door")
  func borrowedName() throws {
    let arguments = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=istio-cni-node-x7k2p"
    #expect(inquiry(try call("ADD", arguments: arguments).begin { _ in false }) != nil)
  }

  @Test("without a namespace of its own in the configuration no name is the agent's")
  func noAgentNamespace() throws {
    let arguments = "K8S_POD_NAMESPACE=x;K8S_POD_NAME=istio-cni-node-x7k2p"
    let call = try call("ADD", #"{"name":"n","cniVersion":"1.0.0"}"#, arguments: arguments)
    #expect(inquiry(try call.begin { _ in false }) != nil)
  }

  @Test("CHECK asks for the proof and is silent when there is one")
  func check() throws {
    let call = try call("CHECK")
    let inquiry = try #require(inquiry(try call.begin { _ in false }))
    #expect(inquiry.subject == .prove)
    #expect(try call.conclude(inquiry, .answered(.captured)) == PluginCall.Output())
    #expect(throws: CNIError.self) { try call.conclude(inquiry, .answered(.refused(code: "X", message: "m"))) }
  }

  @Test("DEL tells the agent and never fails")
  func delete() throws {
    let call = try call("DEL")
    let inquiry = try #require(inquiry(try call.begin { _ in false }))
    #expect(inquiry.subject == .removed)
    #expect(inquiry.patience == 0)
    for outcome: PluginCall.Outcome in [
      .unanswered("r"), .answered(.captured), .answered(.refused(code: "X", message: "m")),
    ] {
      let output = try call.conclude(inquiry, outcome)
      #expect(output.status == 0)
      #expect(output.output == [])
    }
    let failure = PluginCall.failure(.undecodable("x"), variables: Inputs.variables("DEL"), input: [])
    #expect(failure.status == 0)
  }

  @Test("the namespace of the runtime itself is refused, except for DEL")
  func ownNamespace() throws {
    #expect(throws: CNIError.ownNamespace("/var/run/netns/none")) { try call("ADD").begin { _ in true } }
    #expect(throws: CNIError.ownNamespace("/var/run/netns/none")) { try call("CHECK").begin { _ in true } }
    #expect(inquiry(try call("DEL").begin { _ in true }) != nil)
  }

  @Test("VERSION lists every version, whatever the input", arguments: ["", #"{"cniVersion":"1.1.0"}"#, "garbage"])
  func version(input: String) throws {
    let output = try #require(output(try call("VERSION", input).begin { _ in false }))
    #expect(
      String(decoding: output.output, as: UTF8.self)
        == #"{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#)
  }

  @Test(
    "STATUS does not depend on the agent: a node that is not ready could not start it", arguments: ["STATUS", "GC"])
  func statusAndGarbage(command: String) throws {
    let output = try #require(output(try call(command, Inputs.configuration(previous: nil)).begin { _ in false }))
    #expect(output == PluginCall.Output())
    #expect(throws: CNIError.self) { try call(command, "{") }
  }

  @Test("an error is told in the version of the configuration")
  func errors() throws {
    let output = PluginCall.failure(
      .agentRefused(pod: "shop/web", code: "X", message: "because"), variables: Inputs.variables("ADD"),
      input: Array(Inputs.configuration(version: "0.3.1").utf8))
    #expect(output.status == 1)
    let value = try JSONValue.parse(output.output)
    #expect(value["cniVersion"] == "0.3.1")
    #expect(value["code"] == 100)
    #expect(value["msg"]?.string?.contains("shop/web") == true)
    #expect(value["msg"]?.string?.contains("because") == true)
  }

  @Test("a previous result that is none fails the pod before the agent is asked")
  func badPreviousResult() {
    #expect(throws: CNIError.self) {
      try call("ADD", Inputs.configuration(previous: #"{"ips":["#)).begin { _ in false }
    }
  }
}
