import JSON
import Kubernetes
import Testing

@testable import NodeAgent

@Suite("What is written on pods")
struct PodStatusTests {
  private static let unserved = EnrolmentState.failed(.notListening([15008]), retryIn: .zero)
  private static let enabled = PodStatus(redirection: "enabled", proof: "PROVEN")

  @Test(
    "a pod of the mesh",
    arguments: [
      (.announced, .proven, PodStatus(), enabled),
      (.waitingForZtunnel, .pending, PodStatus(), PodStatus(redirection: "pending", proof: "PENDING")),
      (unserved, .fenced, PodStatus(), PodStatus(redirection: "pending", proof: "FENCED")),
      (unserved, .exposed, PodStatus(), PodStatus(proof: "EXPOSED")),
      // On its way nothing changes, so that it does not flicker.
      (.redirecting, .fenced, enabled, enabled), (nil, nil, enabled, enabled),
      (.waitingForNamespace, .waiting, PodStatus(), PodStatus()),
      // Its peers must not fall back to plaintext.
      (.waitingForZtunnel, .pending, enabled, PodStatus(redirection: "enabled", proof: "PENDING")),
      (unserved, .fenced, enabled, PodStatus(redirection: "enabled", proof: "FENCED")),
      (unserved, .exposed, enabled, PodStatus(redirection: "enabled", proof: "EXPOSED")),
      (.waitingForNamespace, .waiting, enabled, PodStatus(redirection: "enabled", proof: "WAITING")),
      (.announced, .proven, PodStatus(redirection: "pending", proof: "FENCED"), enabled),
    ] as [(EnrolmentState?, EnrolmentProof.Code?, PodStatus, PodStatus)])
  func inMesh(state: EnrolmentState?, proof: EnrolmentProof.Code?, last: PodStatus, next: PodStatus) {
    #expect(PodStatus.of(.inMesh, state, proof, after: last) == next)
  }

  @Test("a pod outside says nothing, once nothing is inside it any more")
  func outside() {
    for state in [nil, .outside] as [EnrolmentState?] {
      #expect(PodStatus.of(.outside(.notSelected), state, .outside, after: Self.enabled) == PodStatus())
    }
    #expect(PodStatus.of(.outside(.notSelected), .leaving, .leaving, after: Self.enabled) == Self.enabled)
  }

  @Test("the state is written with the pod's UID, and taken away with null", arguments: ["enabled", nil])
  func patch(value: String?) throws {
    let status = PodStatus(redirection: value, proof: value.map { _ in "PROVEN" })
    let request = PodStatusPublisher.patch(ObjectReference(namespace: "shop", name: "a"), "u", status)
    #expect(request.path == "/api/v1/namespaces/shop/pods/a/status")
    #expect(request.contentType == "application/merge-patch+json")
    let annotations: JSONValue = [
      "ambient.istio.io/redirection": value.map { .string($0) } ?? .null,
      "node-agent.ambient/proof": value.map { _ in "PROVEN" } ?? .null,
    ]
    #expect(try JSONValue.parse(request.body) == ["metadata": ["uid": "u", "annotations": annotations]])
  }
}
