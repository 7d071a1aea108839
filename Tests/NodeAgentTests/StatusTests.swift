import JSON
import Linux
import Telemetry
import Testing
import ZDS

@testable import NodeAgent

@Suite("Status")
struct StatusTests {
  private func proof(_ name: String, _ code: EnrolmentProof.Code) throws -> EnrolmentProof {
    EnrolmentProof(
      uid: try #require(WorkloadUID("uid-\(name)")),
      workload: WorkloadInfo(name: name, namespace: "shop", serviceAccount: "default"),
      namespace: NamespaceIdentity(device: 4, inode: 77), code: code, since: LogTimestamp(microseconds: 1_000_000),
      lastProven: code == .proven ? LogTimestamp(microseconds: 2_500_000) : nil,
      deviations: code == .fenced ? ["nat OUTPUT: gone \"quoted\"", "b", "c"] : [],
      missingListeners: code == .pending ? [15001, 15008] : [], escapedPackets: code == .proven ? 0 : nil)
  }

  @Test("is a table with a line a workload and the sums")
  func table() throws {
    let report = StatusReport(
      workloads: [try proof("web", .proven), try proof("cart", .fenced), try proof("db", .pending)], probes: "host")
    let lines = report.text.split(separator: "\n").map(String.init)
    #expect(lines.count == 5)
    #expect(lines[0].hasPrefix("WORKLOAD"))
    #expect(lines[1].contains("PROVEN   1970-01-01T00:00:01Z  1970-01-01T00:00:02Z  0"))
    #expect(lines[2].contains("FENCED") && lines[2].hasSuffix("nat OUTPUT: gone \"quoted\"; b; and 1 more"))
    #expect(lines[3].hasSuffix("nobody listens on 15001, 15008"))
    #expect(lines[4] == "1 PROVEN, 1 PENDING, 1 FENCED; probes: host")
    #expect(!report.isAsWanted)
  }

  @Test("is JSON that a parser reads back")
  func json() throws {
    let report = StatusReport(workloads: [try proof("cart", .fenced)], probes: "off")
    let value = try JSONValue.parse(report.json.indentedBytes)
    #expect(value["proven"]?.bool == false)
    #expect(value["states"]?["FENCED"]?.integer == 1)
    let workload = value["workloads"]?.array?.first
    #expect(workload?["uid"]?.string == "uid-cart")
    #expect(workload?["networkNamespace"]?.string == "net:[77]")
    #expect(workload?["lastProven"]?.isNull == true)
    #expect(workload?["deviations"]?.array?.first?.string == "nat OUTPUT: gone \"quoted\"")
  }

  @Test(
    "is as wanted when everything is proven, or outside on purpose",
    arguments: [
      ([], true), ([.proven], true), ([.proven, .outside], true), ([.proven, .pending], false), ([.waiting], false),
      ([.exposed], false), ([.leaving], false),
    ] as [([EnrolmentProof.Code], Bool)])
  func asWanted(codes: [EnrolmentProof.Code], wanted: Bool) throws {
    #expect(StatusReport(workloads: try codes.map { try proof("a", $0) }, probes: "off").isAsWanted == wanted)
  }

  @Test(
    "is not taken from what is no whole answer of an agent",
    arguments: [
      "", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
      "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
      "SSH-2.0 200 x\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
      "HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    ])
  func hostileAnswers(text: String) {
    #expect(StatusQuery.parse(Array(text.utf8)) == nil)
  }

  @Test("is taken from an agent, and says whether all is well", arguments: [(200, true), (503, false)])
  func answers(status: Int, wanted: Bool) {
    let bytes = Array("HTTP/1.1 \(status) X\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok".utf8)
    #expect(StatusQuery.parse(bytes) == StatusQuery.Answer(text: "ok", isAsWanted: wanted))
  }
}
