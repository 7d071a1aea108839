import JSON
import Linux
import Telemetry
import Testing
import ZDS

@testable import NodeAgent

@Suite("Explained enrolment")
struct EnrolmentExplanationTests {
  private func status(_ codes: [(String, EnrolmentProof.Code)], escaped: UInt64? = nil, stopped: UInt64? = nil) throws
    -> JSONValue
  {
    let proofs = try codes.map { name, code in
      EnrolmentProof(
        uid: try #require(WorkloadUID("uid-\(name)")),
        workload: WorkloadInfo(name: name, namespace: "shop", serviceAccount: "default"),
        namespace: NamespaceIdentity(device: 4, inode: 77), code: code, since: LogTimestamp(microseconds: 1_000_000),
        lastProven: nil, deviations: code == .fenced ? ["nat OUTPUT: gone"] : [],
        missingListeners: code == .pending ? [15008] : [], escapedPackets: escaped,
        stoppedPackets: stopped)
    }
    return try JSONValue.parse(StatusReport(workloads: proofs, probes: "off").json.indentedBytes)
  }

  @Test(
    "each state has an outcome, a reason and something to do",
    arguments: [
      (.proven, .captured, "captured", nil), (.pending, .cutOff, "no ztunnel serves it", "ztunnel status"),
      (.fenced, .cutOff, "nat OUTPUT: gone", "node-agent rules"), (.exposed, .plaintext, "EXPOSED", "node-agent rules"),
      (.waiting, .cutOff, "namespace is not there", "does the pod run"), (.leaving, .cutOff, "leaving", nil),
      (.outside, .plaintext, "on purpose", "istio.io/dataplane-mode=ambient"),
    ] as [(EnrolmentProof.Code, EnrolmentExplanation.Outcome, String, String?)])
  func states(
    _ code: EnrolmentProof.Code, _ outcome: EnrolmentExplanation.Outcome, _ reason: String, _ check: String?
  ) throws {
    let explanation = EnrolmentExplanation(pod: "shop/web", status: try status([("web", code)]))
    #expect(explanation.outcome == outcome)
    #expect(explanation.text.contains(reason))
    #expect(explanation.text.contains("what to check") == (check != nil))
    if let check { #expect(explanation.text.contains(check)) }
    #expect(try JSONValue.parse(explanation.json.indentedBytes)["pod"]?.string == "shop/web")
  }

  @Test("a pod is found by its name, its uid, or its bare name; what is ambiguous or unknown is not guessed")
  func lookups() throws {
    let status = try status([("web", .proven), ("cart", .proven)])
    for name in ["shop/web", "uid-web", "web"] {
      #expect(EnrolmentExplanation(pod: name, status: status).outcome == .captured)
    }
    let near = EnrolmentExplanation(pod: "webb", status: status)
    #expect(near.outcome == .unknown)
    #expect(EnrolmentExplanation(pod: "cart-1", status: status).text.contains("meant was perhaps shop/cart"))
    #expect(EnrolmentExplanation(pod: "x/y", status: .null).outcome == .unknown)
  }

  @Test("packets that escaped are said even of a proven pod")
  func escapes() throws {
    let explanation = EnrolmentExplanation(pod: "web", status: try status([("web", .proven)], escaped: 3))
    #expect(explanation.outcome == .captured)
    #expect(explanation.text.contains("packets have left it past ztunnel"))
  }

  @Test("so are those that were stopped, unless others got through")
  func stops() throws {
    let explanation = EnrolmentExplanation(
      pod: "web", status: try status([("web", .proven)], escaped: 0, stopped: 3))
    #expect(explanation.outcome == .captured)
    #expect(explanation.text.contains("none got through"))
    #expect(explanation.text.contains("stopped packets"))
    let worse = EnrolmentExplanation(pod: "web", status: try status([("web", .proven)], escaped: 1, stopped: 3))
    #expect(worse.text.contains("packets have left it past ztunnel"))
  }
}
