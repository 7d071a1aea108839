import JSON
import Testing
import Vocabulary

@testable import Kubernetes

@Suite("Objects of the API")
struct ObjectTests {
  private static func pod(_ text: String) throws -> Pod {
    try Pod(ObjectReader(try JSONValue.parse(Array(text.utf8)), subject: "a pod"))
  }

  private static func error(_ text: String) -> KubernetesError? {
    do { _ = try pod(text) } catch { return error as? KubernetesError }
    return nil
  }

  @Test("a pod is read with what enrolment looks at")
  func pod() throws {
    let pod = try Self.pod(
      """
      {"metadata":{"name":"web","namespace":"shop","uid":"u1","resourceVersion":"7","labels":{"a":"b"},
      "annotations":{"x":"y"},"deletionTimestamp":"2026-01-01T00:00:00Z","managedFields":[{"fieldsV1":{"f:a":{}}}]},
      "spec":{"nodeName":"n1","hostNetwork":true,"serviceAccountName":"sa"},
      "status":{"phase":"Failed","podIPs":[{"ip":"::ffff:10.0.0.1"},{"ip":"fd00::1"}],"podIP":"10.9.9.9",
      "initContainerStatuses":[{"name":"i","state":{"waiting":{}},
      "lastState":{"terminated":{"exitCode":126,"message":"no"}}}]}}
      """)
    #expect(pod.meta.reference == ObjectReference(namespace: "shop", name: "web"))
    #expect(pod.meta.isBeingDeleted)
    #expect(pod.isOnHostNetwork)
    #expect(pod.isTerminal)
    #expect(pod.addresses.map(\.description) == ["10.0.0.1", "fd00::1"])
    #expect(pod.initContainers == [.init(name: "i", endedBefore: .init(exitCode: 126, message: "no"))])
  }

  @Test("a pod that was only just made has no addresses and the default account")
  func newPod() throws {
    let pod = try Self.pod("{\"metadata\":{\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\"},\"spec\":null}")
    #expect(pod.addresses == [])
    #expect(pod.serviceAccountName == "default")
  }

  @Test(
    "what is not as it should be is named with its object and its place",
    arguments: [
      ("[]", "a pod", "object"),
      ("{}", "a pod", "metadata"),
      ("{\"metadata\":{\"name\":\"\"}}", "pod ", "metadata.name"),
      ("{\"metadata\":{\"name\":\"a\",\"namespace\":\"n\"}}", "pod n/a", "metadata"),
      ("{\"metadata\":{\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\",\"labels\":[]}}", "pod n/a", "metadata.labels"),
      (
        "{\"metadata\":{\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\",\"labels\":{\"k\":1}}}", "pod n/a",
        "metadata.labels.k"
      ),
      (
        "{\"metadata\":{\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\"},\"status\":{\"podIPs\":[{\"ip\":\"x\"}]}}",
        "pod n/a", "status.podIPs"
      ),
      (
        "{\"metadata\":{\"name\":\"a\",\"namespace\":\"n\",\"uid\":\"u\"},\"status\":{\"podIPs\":[3]}}",
        "pod n/a", "status.podIPs[0]"
      ),
    ])
  func malformed(text: String, subject: String, path: String) {
    guard case .malformed(subject, path, _)? = Self.error(text) else {
      Issue.record("\(String(describing: Self.error(text)))")
      return
    }
  }

  @Test(
    "label selectors",
    arguments: [
      ([LabelSelector.Requirement](), true), ([.isOneOf("a", ["1"])], true), ([.isOneOf("a", ["2"])], false),
      ([.isOneOf("b", ["1"])], false), ([.isNoneOf("a", ["1"])], false), ([.isNoneOf("b", ["1"])], true),
      ([.exists("a")], true), ([.isAbsent("a")], false), ([.exists("a"), .exists("b")], false),
    ])
  func selectors(requirements: [LabelSelector.Requirement], matches: Bool) {
    #expect(LabelSelector(requirements).matches(["a": "1"]) == matches)
  }
}
