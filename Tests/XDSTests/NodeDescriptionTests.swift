import SwiftProtobuf
import Testing

@testable import XDS

@Suite("Node description")
struct NodeDescriptionTests {
  @Test("the variables become metadata, and JSON keeps its structure")
  func metadata() {
    let node = NodeDescription(environment: [
      "POD_NAME": "zt", "POD_NAMESPACE": "sys", "NODE_NAME": "a", "ISTIO_META_CLUSTER_ID": "west",
      "ISTIO_METAJSON_LABELS": "{\"a\": [1, true]}", "ISTIO_METAJSON_BAD": "{", "OTHER": "x",
    ])
    let fields = node.message.metadata.fields
    #expect(fields["NAME"]?.stringValue == "zt")
    #expect(fields["NAMESPACE"]?.stringValue == "sys")
    #expect(fields["NODE_NAME"]?.stringValue == "a")
    #expect(fields["INSTANCE_IPS"]?.stringValue == "1.1.1.1")
    #expect(fields["CLUSTER_ID"]?.stringValue == "west")
    #expect(fields["LABELS"]?.structValue.fields["a"]?.listValue.values.map(\.numberValue) == [1, 0])
    #expect(fields["OTHER"] == nil && fields["BAD"] == nil)
    #expect(node.skippedVariables == ["ISTIO_METAJSON_BAD"])
  }
}

@Suite("Pauses between streams")
struct StreamBackoffTests {
  @Test("they double from 20 ms to 15 s")
  func growth() {
    var backoff = StreamBackoff()
    let pauses = (0..<13).map { _ in backoff.pause(after: .zero, random: 0) }
    #expect(pauses.prefix(4) == [.milliseconds(20), .milliseconds(40), .milliseconds(80), .milliseconds(160)])
    #expect(pauses.suffix(3) == [.seconds(15), .seconds(15), .seconds(15)])
  }

  @Test("chance makes them shorter, to half at most, and never nothing")
  func jitter() {
    var backoff = StreamBackoff()
    #expect(backoff.pause(after: .zero, random: 0.999) > .milliseconds(10))
  }

  @Test("a stream that ran well starts them anew, and one that ended at once does not")
  func reset() {
    var backoff = StreamBackoff()
    for _ in 0..<8 { _ = backoff.pause(after: .milliseconds(1), random: 0) }
    #expect(backoff.pause(after: .seconds(31), random: 0) == .milliseconds(20))
  }
}
