import JSON
import Testing

@testable import CNI

@Suite("Files of network configuration")
struct NetworkConfigurationTests {
  static let list = #"""
    {"cniVersion": "0.4.0", "name": "podnet", "x-own": [1.0, 1e2], "disableCheck": false, "plugins": [
      {"type": "bridge", "mtu": 1500.0, "ipam": {"type": "host-local"}}, {"type": "portmap", "capabilities": {"portMappings": true}}]}
    """#
  static let single =
    #"{"cniVersion":"0.4.0","name":"podnet","type":"bridge","ipam":{"type":"host-local","z":1,"a":2}}"#

  private func parsed(_ text: String, _ form: NetworkConfiguration.Form) throws -> NetworkConfiguration {
    try NetworkConfiguration(Array(text.utf8), as: form)
  }

  private let entry = PluginEntry(excludedNamespaces: ["kube-system"], agentNamespace: "istio-system").json

  private func types(_ configuration: NetworkConfiguration?) -> [String] {
    configuration?.plugins.compactMap(NetworkConfiguration.type) ?? []
  }

  @Test("our entry comes last, and everything else stays as it was")
  func inserted() throws {
    let inserted = try parsed(Self.list, .list).inserting(entry)
    #expect(types(inserted) == ["bridge", "portmap", "ambient-cni"])
    #expect(inserted.json["x-own"]?.text == "[1.0,1e2]")
    #expect(inserted.json.members.map(\.key) == ["cniVersion", "name", "x-own", "disableCheck", "plugins"])
    #expect(inserted.removingOurEntry() == (try parsed(Self.list, .list)))
    #expect(try NetworkConfiguration(inserted.bytes, as: .list) == inserted)
  }

  @Test("inserting twice changes nothing")
  func idempotent() throws {
    let once = try parsed(Self.list, .list).inserting(entry)
    #expect(once.inserting(entry) == once)
  }

  @Test("an entry with other content is replaced in its place, several become one")
  func replaced() throws {
    let text = #"""
      {"name":"n","plugins":[{"type":"a"},{"type":"ambient-cni","old":1},{"type":"b"},{"type":"ambient-cni"}]}
      """#
    let list = try parsed(text, .list).inserting(entry)
    #expect(types(list) == ["a", "ambient-cni", "b"])
    #expect(list.plugins[1] == entry)
  }

  @Test("an entry of Istio's own plugin gives way to ours")
  func istio() throws {
    let text = #"{"name":"n","plugins":[{"type":"a"},{"type":"istio-cni","kubernetes":{}}]}"#
    #expect(types(try parsed(text, .list).inserting(entry)) == ["a", "ambient-cni"])
  }

  @Test("our entry never stands before the plugin that makes the network")
  func neverFirst() throws {
    let text = #"{"name":"n","plugins":[{"type":"ambient-cni"},{"type":"a"}]}"#
    #expect(types(try parsed(text, .list).inserting(entry)) == ["a", "ambient-cni"])
  }

  @Test("a single plugin becomes a list under its own name and version")
  func single() throws {
    let list = try parsed(Self.single, .single).inserting(entry)
    #expect(list.form == .list)
    #expect(list.json["name"] == "podnet")
    #expect(list.json["cniVersion"] == "0.4.0")
    #expect(list.plugins.first?["cniVersion"] == nil)
    #expect(types(list) == ["bridge", "ambient-cni"])
    #expect(list.isOnlyOurEntryOver(try parsed(Self.single, .single)))
    #expect(!list.isOnlyOurEntryOver(try parsed(Self.single.replacing("host-local", with: "dhcp"), .single)))
  }

  @Test("a list is of a version that knows lists, and has a name")
  func oldSingle() throws {
    let list = try parsed(#"{"cniVersion":"0.2.0","type":"bridge"}"#, .single).inserting(entry)
    #expect(list.json["cniVersion"] == "0.3.1")
    #expect(list.json["name"] == "k8s-pod-network")
  }

  @Test("what only we are in, nothing is left of")
  func onlyOurs() throws {
    #expect(try parsed(#"{"name":"n","plugins":[{"type":"ambient-cni"}]}"#, .list).removingOurEntry() == nil)
    #expect(try parsed(#"{"type":"ambient-cni"}"#, .single).removingOurEntry() == nil)
  }

  @Test(
    "what a runtime would refuse is refused",
    arguments: [
      ("", NetworkConfiguration.Form.list), ("[]", .list), ("{}", .list), (#"{"name":"n"}"#, .list),
      (#"{"plugins":[{"type":"a"}]}"#, .list), (#"{"name":"n","plugins":[]}"#, .list),
      (#"{"name":"n","plugins":[{}]}"#, .list), (#"{"name":"n","plugins":[{"type":""}]}"#, .list),
      (#"{"name":"n","plugins":[3]}"#, .list), (#"{"name":"n","plugins":{"type":"a"}}"#, .list),
      (#"{"name":"n","plugins":[{"type":"a"}]"#, .list), (#"{"name":"n"}"#, .single), (#"{"type":7}"#, .single),
    ])
  func refused(text: String, form: NetworkConfiguration.Form) {
    #expect(throws: NetworkConfigurationError.self) { try parsed(text, form) }
  }

  @Test(
    "files are told by their names",
    arguments: [
      ("10-x.conf", NetworkConfiguration.Form.single), ("10-x.conflist", .list), ("x.json", .single), (".x.conf", nil),
      ("10-x.conf.bak", nil), ("10-x.conf.ambient-saved", nil), ("readme", nil), ("10-x.conflist.ambient-tmp-7", nil),
    ])
  func names(name: String, form: NetworkConfiguration.Form?) {
    #expect(NetworkConfiguration.form(ofFile: name) == form)
  }
}
