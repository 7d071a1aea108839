import HTTP2
import TLS
import Testing
import Vocabulary

@testable import GRPC

@Suite("gRPC values")
struct ValueTests {
  @Test(
    "addresses are read as Istio writes them",
    arguments: [
      ("https://istiod.istio-system.svc:15012", "istiod.istio-system.svc:15012"),
      ("istiod.istio-system.svc:15012", "istiod.istio-system.svc:15012"), ("https://host", "host:443"),
      ("HTTPS://10.0.0.1:1/", "10.0.0.1:1"), ("https://[::1]:15012", "[::1]:15012"), ("[fd00::1]", "[fd00::1]:443"),
    ])
  func targets(_ text: String, _ authority: String) {
    #expect(GRPCTarget(text)?.authority == authority)
  }

  @Test(
    "addresses that cannot be dialled are refused",
    arguments: [
      "", "http://host:1", "https://", "host:", "host:0", "host:65536", "host:1x", "host:1/path", "a b:1", "[::1",
      "[::1]x", "[10.0.0.1]:1", "::1", "unix:///x", "*.example:1", "a..b:1", "-%:1",
    ])
  func badTargets(_ text: String) {
    #expect(GRPCTarget(text) == nil)
  }

  @Test("messages are found however the bytes are cut", arguments: [1, 2, 3, 5, 7, 64])
  func cuts(_ size: Int) throws {
    let messages: [[UInt8]] = [[], [1], Array(repeating: 7, count: 300), [2, 3]]
    var bytes: [UInt8] = []
    for message in messages { MessageFraming.append(message, to: &bytes) }
    var deframer = MessageDeframer(limit: 300)
    var found: [[UInt8]] = []
    for start in stride(from: 0, to: bytes.count, by: size) {
      found += try Array(bytes[start..<min(start + size, bytes.count)]).withUnsafeBytes { chunk throws(GRPCStatus) in
        try deframer.receive(chunk)
      }
    }
    #expect(found == messages)
    #expect(!deframer.isIncomplete)
  }

  @Test(
    "fields that gRPC keeps for itself are not legal", arguments: ["", "X", "a b", "x-bin", "grpc-x", ":path", "é"])
  func illegalFields(_ name: String) {
    #expect(!CallCredentials.Header(name, "v").isLegal)
  }

  @Test("a value with a line break is not legal")
  func illegalValue() {
    #expect(!CallCredentials.Header("x", "a\r\nb").isLegal)
    #expect(CallCredentials.Header("x-y", "a b").isLegal)
  }

  @Test("a token that is not there is an error unless it is optional")
  func missingToken() throws {
    #expect(throws: GRPCStatus.self) { try CallCredentials(token: .file("/nonexistent")).fields() }
    #expect(try CallCredentials(token: .optionalFile("/nonexistent")).fields().isEmpty)
    #expect(throws: GRPCStatus.self) { try CallCredentials(token: .literal(" \n")).fields() }
    #expect(throws: GRPCStatus.self) { try CallCredentials(token: .literal("a\nb")).fields() }
  }
}
