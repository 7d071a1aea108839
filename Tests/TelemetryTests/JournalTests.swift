import Glibc
import Logging
import Testing
import Vocabulary

@testable import Telemetry

@Suite("Journal")
struct JournalTests {
  private func fields(_ entry: [UInt8]) -> [String: String] {
    let texts = JournalEntry.fields(of: entry).map { String(decoding: entry[$0], as: UTF8.self) }
    return Dictionary(
      texts.map { text in
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        return (String(parts[0]), parts.count > 1 ? String(parts[1]) : "")
      }
    ) { first, _ in first }
  }

  @Test("an event has its fields by name, and a message without a time that shows them")
  func event() {
    let record = AccessLogRecord(
      source: .init(address: SocketAddress(.v4(0x0a01_0007), 40022), workload: "web"),
      destination: .init(address: SocketAddress(.v4(0x0a01_0109), 15008)), direction: .outbound)
    let entry = AccessLogEvent.complete(
      record, ConnectionTraffic(bytesSent: 1, bytesReceived: 2, duration: .milliseconds(12)),
      ConnectionFailure(text: "no", code: "NO")
    ).line(.journal, at: .now)
    let fields = fields(entry)
    #expect(fields["PRIORITY"] == "3")
    #expect(fields["TARGET"] == "access")
    #expect(fields["SRC_ADDR"] == "10.1.0.7:40022")
    #expect(fields["SRC_WORKLOAD"] == "web")
    #expect(fields["BYTES_RECV"] == "2")
    #expect(fields["ERROR_CODE"] == "NO")
    #expect(
      fields["MESSAGE"]?.hasPrefix("access: connection complete src.addr=10.1.0.7:40022 src.workload=\"web\"") == true)
  }

  @Test("values with line ends stay one field")
  func lineEnds() {
    var entry = JournalEntry()
    entry.append("a.b", text: "x\nPRIORITY=0\n")
    let fields = fields(entry.bytes)
    #expect(fields == ["A_B": "x\nPRIORITY=0\n"])
  }

  @Test(
    "names are what the journal takes",
    arguments: [("src.addr", "SRC_ADDR"), ("_private", "F_PRIVATE"), ("9", "F9"), ("", "F"), ("é", "F__")])
  func names(_ key: String, _ name: String) {
    #expect(JournalEntry.name(key) == name)
  }

  @Test("no random bytes are read past their end")
  func random() {
    for _ in 0..<2000 {
      let bytes = (0..<Int.random(in: 0...40)).map { _ in UInt8.random(in: 0...255) }
      for field in JournalEntry.fields(of: bytes) { #expect(field.upperBound <= bytes.count) }
    }
  }

  @Test("the journal is chosen by name, or where standard error is one and nothing else is said")
  func choice() throws {
    #expect(LogFormat(environment: ["LOG_FORMAT": "journal"]) == .journal)
    #expect(LogFormat(environment: [:]) == .plain)
    var status = stat()
    #expect(fstat(STDERR_FILENO, &status) == 0)
    let stream = "\(status.st_dev):\(status.st_ino)"
    #expect(LogFormat(environment: ["JOURNAL_STREAM": stream]) == .journal)
    #expect(LogFormat(environment: ["JOURNAL_STREAM": stream, "LOG_FORMAT": "json"]) == .json)
    #expect(LogFormat(environment: ["JOURNAL_STREAM": "1:2"]) == .plain)
  }
}
