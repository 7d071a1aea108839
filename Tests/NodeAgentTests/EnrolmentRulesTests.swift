import Kubernetes
import Testing

@testable import NodeAgent

@Suite("Which pods belong to the mesh")
struct EnrolmentRulesTests {
  private static let mode = "istio.io/dataplane-mode"
  private static let rules = EnrolmentRules(
    selectors: EnablementSelector.standard, excludedNamespaces: ["kube-system"], systemNamespace: "istio-system")

  private static func pod(
    _ labels: [String: String] = [:], namespace: String = "shop", annotations: [String: String] = [:],
    host: Bool = false, phase: String = "Running"
  ) -> Pod {
    Pod(
      meta: ObjectMeta(name: "a", namespace: namespace, uid: "u", labels: labels, annotations: annotations),
      isOnHostNetwork: host, phase: phase)
  }

  @Test(
    "labels of the namespace and of the pod",
    arguments: [
      ("ambient", nil, true), ("ambient", "anything", true), ("ambient", "none", false), ("ambient", "ambient", true),
      (nil, "ambient", true), ("none", "ambient", true), ("other", "ambient", true), (nil, nil, false),
      ("none", nil, false), ("other", "other", false),
    ] as [(String?, String?, Bool)])
  func labels(namespace: String?, pod: String?, isCaptured: Bool) {
    let verdict = Self.rules.verdict(
      Self.pod(pod.map { [Self.mode: $0] } ?? [:]), namespace: namespace.map { [Self.mode: $0] } ?? [:])
    #expect(verdict == (isCaptured ? .inMesh : .outside(.notSelected)))
  }

  @Test(
    "what keeps a pod out whatever the labels say",
    arguments: [
      (pod(host: true), EnrolmentRules.Reason.hostNetwork),
      (pod(annotations: ["sidecar.istio.io/status": ""]), .sidecar),
      (pod(phase: "Succeeded"), .terminated), (pod(phase: "Failed"), .terminated),
      (pod(namespace: "kube-system"), .excludedNamespace),
      (pod(["app": "ztunnel"], namespace: "istio-system"), .ztunnel),
    ])
  func exceptions(pod: Pod, reason: EnrolmentRules.Reason) {
    #expect(Self.rules.verdict(pod, namespace: [Self.mode: "ambient"]) == .outside(reason))
  }

  @Test("an application called ztunnel elsewhere, and others where ztunnel runs, are no exception")
  func namesakes() {
    let ambient = [Self.mode: "ambient"]
    #expect(Self.rules.verdict(Self.pod(["app": "ztunnel"]), namespace: ambient) == .inMesh)
    #expect(Self.rules.verdict(Self.pod(namespace: "istio-system"), namespace: ambient) == .inMesh)
  }

  @Test("what an annotation says of the pod's state decides nothing", arguments: ["enabled", "pending"])
  func annotation(value: String) {
    let pod = Self.pod(annotations: ["ambient.istio.io/redirection": value])
    #expect(Self.rules.verdict(pod, namespace: [:]) == .outside(.notSelected))
  }

  @Test("the chart's selectors are the standard ones")
  func chart() throws {
    let text = """
      - podSelector:
          matchLabels: {istio.io/dataplane-mode: ambient}
      - podSelector:
          matchExpressions:
          - { key: istio.io/dataplane-mode, operator: NotIn, values: [none] }
        namespaceSelector:
          matchLabels: {istio.io/dataplane-mode: ambient}
      """
    #expect(try EnablementSelectorText.parse(text) == EnablementSelector.standard)
  }

  @Test("nothing is selected by an empty text, everything by an empty selector")
  func empty() throws {
    for text in ["", "[]", "null"] { #expect(try EnablementSelectorText.parse(text) == []) }
    #expect(try EnablementSelectorText.parse("[{}]").first?.matches(pod: [:], namespace: [:]) == true)
    #expect(try EnablementSelectorText.parse("[{\"podSelector\":{}}]").first?.matches(pod: [:], namespace: [:]) == true)
  }

  @Test(
    "selectors that make no sense are refused",
    arguments: [
      "x", "{}", "[1]", "[{pods: {}}]", "[{podSelector: [1]}]", "[{podSelector: {matchLabels: {a: [1]}}}]",
      "[{podSelector: {labels: {}}}]", "[{podSelector: {matchExpressions: {}}}]",
      "[{podSelector: {matchExpressions: [{key: a}]}}]",
      "[{podSelector: {matchExpressions: [{key: a, operator: Gt, values: [x]}]}}]",
      "[{podSelector: {matchExpressions: [{key: a, operator: In}]}}]",
      "[{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}]}}]", "[{podSelector: {",
    ])
  func refused(text: String) {
    #expect(throws: EnablementSelectorText.Refusal.self) { try EnablementSelectorText.parse(text) }
  }
}
