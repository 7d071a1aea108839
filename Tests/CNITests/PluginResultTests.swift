import JSON
import Testing

@testable import CNI

@Suite("Results of other plugins")
struct PluginResultTests {
  private func output(_ previous: String, _ version: CNIVersion) throws -> String {
    String(decoding: try PluginResult.output(Array(previous.utf8), in: version), as: UTF8.self)
  }

  @Test("a result in the version that is wanted passes byte for byte")
  func untouched() throws {
    #expect(try output(Inputs.previous, .v1_0_0) == Inputs.previous)
  }

  @Test("without a previous result there is an empty one", arguments: CNIVersion.allCases)
  func empty(version: CNIVersion) throws {
    let text = String(decoding: try PluginResult.output(nil, in: version), as: UTF8.self)
    #expect(text == #"{"cniVersion":"\#(version.rawValue)","dns":{}}"#)
  }

  @Test("a result that names no version is in the configuration's, and says so afterwards")
  func unnamed() throws {
    #expect(try output(#"{"ips":[],"x":1.0}"#, .v0_4_0) == #"{"cniVersion":"0.4.0","ips":[],"x":1.0}"#)
  }

  static let plain =
    #"{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","mtu":1500}],"ips":[{"interface":0,"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"address":"fd00::2/64"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1","mtu":9000},{"dst":"::/0"}],"dns":{"nameservers":["9.9.9.9"]},"odd":[0.10]}"#
  static let versioned =
    #"{"cniVersion":"0.3.1","interfaces":[{"name":"eth0","mtu":1500}],"ips":[{"version":"4","interface":0,"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"version":"6","address":"fd00::2/64"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1","mtu":9000},{"dst":"::/0"}],"dns":{"nameservers":["9.9.9.9"]},"odd":[0.10]}"#
  static let separate =
    #"{"cniVersion":"0.2.0","dns":{"nameservers":["9.9.9.9"]},"odd":[0.10],"ip4":{"ip":"10.0.0.2/24","gateway":"10.0.0.1","routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1"}]},"ip6":{"ip":"fd00::2/64","routes":[{"dst":"::/0"}]}}"#

  @Test(
    "a result in another version is told in the one that is wanted",
    arguments: [
      (plain, CNIVersion.v0_3_1, versioned), (versioned, .v1_1_0, plain), (plain, .v0_2_0, separate),
      (versioned, .v0_2_0, separate),
    ])
  func converted(previous: String, version: CNIVersion, expected: String) throws {
    let result = try JSONValue.parse(Array(try output(previous, version).utf8))
    #expect(result == (try JSONValue.parse(Array(expected.utf8))))
    #expect(result.object?.members.first?.key == "cniVersion")
  }

  @Test("results of the oldest versions become addresses and routes")
  func joined() throws {
    let expected =
      #"{"cniVersion":"0.4.0","dns":{"nameservers":["9.9.9.9"]},"odd":[0.10],"ips":[{"version":"4","address":"10.0.0.2/24","gateway":"10.0.0.1"},{"version":"6","address":"fd00::2/64"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1"},{"dst":"::/0"}]}"#
    #expect(try output(Self.separate, .v0_4_0) == expected)
    let plain = try output(Self.separate, .v1_0_0)
    #expect(!plain.contains("\"version\""))
  }

  @Test("within a form only the version changes")
  func sameForm() throws {
    #expect(try output(Self.plain, .v1_0_0) == Self.plain.replacing("1.1.0", with: "1.0.0"))
  }

  @Test("what cannot be told is an error, not a loss")
  func impossible() {
    #expect(throws: CNIError.self) { try output(#"{"cniVersion":"1.0.0","ips":[]}"#, .v0_2_0) }
    #expect(throws: CNIError.incompatibleVersion("2.0.0")) { try output(#"{"cniVersion":"2.0.0"}"#, .v1_0_0) }
    #expect(throws: CNIError.self) { try output(#"{"cniVersion":7}"#, .v1_0_0) }
    #expect(throws: CNIError.self) { try output("[]", .v1_0_0) }
  }

  @Test("damaged results of any shape are an answer or an error, never a crash")
  func odd() throws {
    for damaged in [
      #"{"cniVersion":"1.0.0","ips":7}"#, #"{"cniVersion":"1.0.0","ips":[null,3,{"address":5}]}"#,
      #"{"cniVersion":"0.2.0","ip4":[],"ip6":{"routes":9}}"#,
      #"{"cniVersion":"1.0.0","ips":[{"address":"::"}],"routes":[3]}"#,
    ] {
      for version in CNIVersion.allCases { _ = try? output(damaged, version) }
      _ = try? PluginResult.addresses(Array(damaged.utf8))
    }
  }

  @Test("addresses are found in every form", arguments: [plain, versioned, separate])
  func addresses(result: String) throws {
    #expect(try PluginResult.addresses(Array(result.utf8)) == ["10.0.0.2", "fd00::2"])
  }
}
