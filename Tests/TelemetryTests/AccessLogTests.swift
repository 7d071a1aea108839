import Foundation
import Testing
import Vocabulary

@testable import Telemetry

@Suite("The access log")
struct AccessLogTests {
  static let moment = LogTimestamp(microseconds: 1_787_220_672_131_415)

  static func record() throws -> AccessLogRecord {
    AccessLogRecord(
      source: .init(
        address: try #require(SocketAddress("10.1.0.7:40022")), workload: "web-6d9-x2", namespace: "shop",
        identity: SPIFFEIdentity(uri: "spiffe://cluster.local/ns/shop/sa/web"), cluster: "Kubernetes"),
      destination: .init(
        address: try #require(SocketAddress("10.1.1.9:15008")), workload: "cart-77b-q1", namespace: "shop",
        identity: SPIFFEIdentity(uri: "spiffe://cluster.local/ns/shop/sa/cart"), cluster: "Kubernetes"),
      tunnelTarget: .address(try #require(SocketAddress("10.1.1.9:8080"))),
      service: "cart.shop.svc.cluster.local", direction: .outbound)
  }

  static let traffic = ConnectionTraffic(bytesSent: 120, bytesReceived: 800, duration: .microseconds(12_999))

  func text(_ event: AccessLogEvent, _ format: LogFormat = .plain) -> String {
    String(decoding: event.line(format, at: Self.moment), as: UTF8.self)
  }

  /// observability.md §2.1.
  @Test("writes a finished connection exactly as Istio does")
  func completePlain() throws {
    let expected =
      "2026-08-20T10:11:12.131415Z\tinfo\taccess\tconnection complete\t"
      + #"src.addr=10.1.0.7:40022 src.workload="web-6d9-x2" src.namespace="shop" "#
      + #"src.identity="spiffe://cluster.local/ns/shop/sa/web" src.cluster="Kubernetes" "#
      + #"dst.addr=10.1.1.9:15008 dst.hbone_addr=10.1.1.9:8080 dst.service="cart.shop.svc.cluster.local" "#
      + #"dst.workload="cart-77b-q1" dst.namespace="shop" "#
      + #"dst.identity="spiffe://cluster.local/ns/shop/sa/cart" dst.cluster="Kubernetes" "#
      + #"direction="outbound" bytes_sent=120 bytes_recv=800 duration="12ms""# + "\n"
    #expect(text(.complete(try Self.record(), Self.traffic)) == expected)
  }

  @Test("writes a finished connection as one JSON object in the same order")
  func completeJSON() throws {
    let expected =
      #"{"level":"info","time":"2026-08-20T10:11:12.131415Z","scope":"access","message":"connection complete","#
      + #""src.addr":"10.1.0.7:40022","src.workload":"web-6d9-x2","src.namespace":"shop","#
      + #""src.identity":"spiffe://cluster.local/ns/shop/sa/web","src.cluster":"Kubernetes","#
      + #""dst.addr":"10.1.1.9:15008","dst.hbone_addr":"10.1.1.9:8080","dst.service":"cart.shop.svc.cluster.local","#
      + #""dst.workload":"cart-77b-q1","dst.namespace":"shop","#
      + #""dst.identity":"spiffe://cluster.local/ns/shop/sa/cart","dst.cluster":"Kubernetes","#
      + #""direction":"outbound","bytes_sent":120,"bytes_recv":800,"duration":"12ms"}"# + "\n"
    #expect(text(.complete(try Self.record(), Self.traffic), .json) == expected)
  }

  @Test("counts the endpoints tried when there was more than one")
  func endpointsTried() throws {
    var record = try Self.record()
    record.endpointsTried = 3
    #expect(text(.complete(record, Self.traffic)).contains(#"direction="outbound" endpoints_tried=3 bytes_sent=120"#))
    record.endpointsTried = 1
    #expect(!text(.complete(record, Self.traffic)).contains("endpoints_tried"))
  }

  @Test("says why a connection failed, and by which code")
  func failure() throws {
    let failure = ConnectionFailure(text: "connection closed due to policy change", code: "POLICY_CHANGED")
    let line = text(.complete(try Self.record(), Self.traffic, failure))
    #expect(line.hasPrefix("2026-08-20T10:11:12.131415Z\terror\taccess\tconnection complete\tsrc.addr="))
    #expect(
      line.hasSuffix(
        #" duration="12ms" error="connection closed due to policy change" error_code="POLICY_CHANGED""# + "\n"))
  }

  @Test("says why an endpoint was given up for another, at a level that is on by default")
  func givenUp() throws {
    let failure = ConnectionFailure(text: "connect refused", code: "UPSTREAM_UNREACHABLE")
    let line = text(.givenUp(try Self.record(), failure))
    #expect(
      line.hasPrefix(
        "2026-08-20T10:11:12.131415Z\tinfo\taccess\tendpoint given up for another\tsrc.addr=10.1.0.7:40022 "))
    #expect(line.contains(" dst.addr=10.1.1.9:15008 "))
    #expect(line.hasSuffix(#" error="connect refused" error_code="UPSTREAM_UNREACHABLE""# + "\n"))
  }

  @Test("leaves out the outcome while a connection is only opened")
  func opened() throws {
    let line = text(.opened(try Self.record()))
    #expect(line.hasPrefix("2026-08-20T10:11:12.131415Z\tdebug\taccess\tconnection opened\tsrc.addr=10.1.0.7:40022 "))
    #expect(line.hasSuffix(#" dst.cluster="Kubernetes" direction="outbound""# + "\n"))
  }

  @Test("carries only addresses, direction and error when refused early")
  func denied() throws {
    let event = AccessLogEvent.denied(
      source: try #require(SocketAddress("[2001:db8::1]:40000")),
      destination: try #require(SocketAddress("255.100.10.1:65535")), direction: .inbound,
      ConnectionFailure(text: "attempted recursive call to ourselves", code: "RECURSIVE_CALL"))
    #expect(
      text(event) == "2026-08-20T10:11:12.131415Z\twarn\taccess\tconnection failed\t"
        + #"src.addr=[2001:db8::1]:40000 dst.addr=255.100.10.1:65535 direction="inbound" "#
        + #"error="attempted recursive call to ourselves" error_code="RECURSIVE_CALL""# + "\n")
  }

  @Test("leaves out what is not known")
  func absentValues() throws {
    var record = try Self.record()
    record.source = .init(address: record.source.address)
    record.destination = .init(address: record.destination.address)
    record.tunnelTarget = nil
    record.service = nil
    #expect(
      text(.opened(record)) == "2026-08-20T10:11:12.131415Z\tdebug\taccess\tconnection opened\t"
        + #"src.addr=10.1.0.7:40022 dst.addr=10.1.1.9:15008 direction="outbound""# + "\n")
  }

  @Test("writes a host authority bare, and quotes one that would break the line")
  func hostAuthority() throws {
    var record = try Self.record()
    record.tunnelTarget = .host("cart.shop", port: 80)
    #expect(text(.opened(record)).contains(" dst.hbone_addr=cart.shop:80 "))
    record.tunnelTarget = .host("a error=\"x\"\n", port: 80)
    #expect(text(.opened(record)).contains(#" dst.hbone_addr="a error=\"x\"\n:80" "#))
  }

  @Test(
    "keeps hostile text inside its line and its quotes in both formats",
    arguments: [
      "\"", "\\", "\n", "\r\n", "\t", "\u{0}", "\u{1b}[2J", "\u{7f}", "\u{9b}2J", "\u{85}", "é", "日本", "🙂\u{1}",
    ])
  func hostileText(value: String) throws {
    let event = AccessLogEvent.complete(
      try Self.record(), Self.traffic, ConnectionFailure(text: "a\(value)b", code: "X"))
    let plain = text(event)
    #expect(plain.unicodeScalars.count { $0.value == 10 } == 1)
    #expect(plain.unicodeScalars.count { $0.value == 9 } == 4)
    #expect(!plain.unicodeScalars.contains { [0, 0x1b, 0x7f, 0x85, 0x9b].contains($0.value) })
    let object = try JSONSerialization.jsonObject(with: Data(text(event, .json).utf8)) as? [String: Any]
    #expect(object?["error"] as? String == "a\(value)b")
  }

  @Test("cuts a value that is too long, between characters")
  func longValue() throws {
    let event = AccessLogEvent.complete(
      try Self.record(), Self.traffic,
      ConnectionFailure(text: "x" + String(repeating: "é", count: 4000), code: "X"))
    let object = try JSONSerialization.jsonObject(with: Data(text(event, .json).utf8)) as? [String: Any]
    #expect(object?["error"] as? String == "x" + String(repeating: "é", count: 2047) + "…")
  }

  @Test("writes only the events its level lets through")
  func filtering() throws {
    let output = Capture()
    let pipeline = try output.pipeline(filter: "info")
    let log = pipeline.accessLog
    log.write(.opened(try Self.record()))
    log.write(.complete(try Self.record(), Self.traffic))
    try pipeline.levels.append(LogFilter("access=debug"))
    log.write(.opened(try Self.record()))
    try pipeline.levels.append(LogFilter("access=off"))
    log.write(.complete(try Self.record(), Self.traffic, ConnectionFailure(text: "x", code: "X")))
    let messages = output.lines(of: pipeline).map { $0.split(separator: "\t")[3] }
    #expect(messages == ["connection complete", "connection opened"])
  }
}
