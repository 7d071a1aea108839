import Testing

@testable import Mesh

/// hbone.md §4.1.
@Suite struct BaggageTests {
  @Test("a workload is described in the fixed order, empty fields left out")
  func text() {
    let full = Workload(
      .pod("cart-7") {
        $0.clusterID = "west"
        $0.workloadName = "cart"
        $0.kind = .deployment
        $0.canonicalName = "cart"
        $0.canonicalRevision = "v2"
        $0.locality = .init(region: "r1", zone: "z1", subzone: "s1")
      })
    #expect(
      full.baggage
        == "k8s.cluster.name=west,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,service.version=v2,cloud.region=r1,cloud.availability_zone=z1"
    )
    #expect(Workload(.init(uid: "u")).baggage == "k8s.cluster.name=Kubernetes")
  }

  @Test("the kind of workload names its key", arguments: Workload.Kind.allCases)
  func kind(_ kind: Workload.Kind) {
    let workload = Workload(
      .pod("x") {
        $0.kind = kind
        $0.workloadName = "w"
      })
    #expect(workload.baggage == "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.\(kind.rawValue).name=w")
    let parsed = Baggage(headers: [workload.baggage])
    #expect(parsed?.kind == kind && parsed?.workloadName == "w")
    #expect(parsed?.text == workload.baggage)
  }

  @Test(
    "a value that would break out of its field is left out", arguments: ["a,b", "a=b", "a\r\nx: y", "\u{e9}", "a\0"])
  func unsafe(_ value: String) {
    #expect(
      Workload(.pod("x") { $0.canonicalName = value }).baggage == "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop")
  }

  @Test("parsing keeps what is between the first two equals signs, and the last of duplicates")
  func parsing() throws {
    let baggage = try #require(
      Baggage(headers: [
        "k8s.cluster.name=a=b=c,unknown=x,novalue,=y,service.name=first", "service.name=second,service.version= v1 ,,",
        "cloud.region=r,cloud.region=", "k8s.statefulset.name=z,k8s.job.name=nightly",
      ]))
    #expect(baggage.clusterID == "a")
    #expect(baggage.canonicalName == "second")
    #expect(baggage.canonicalRevision == " v1 ")
    #expect(baggage.region == nil)
    #expect(baggage.kind == .job && baggage.workloadName == "nightly")
    #expect(baggage.namespace == nil)
  }

  @Test(
    "one line that is not visible ASCII spoils all", arguments: ["service.name=\u{e9}", "a=\0", "a=\n", "a=\u{7f}"])
  func notASCII(_ line: String) {
    #expect(Baggage(headers: ["service.name=x", line]) == nil)
  }

  @Test("an endless value is cut")
  func long() {
    let baggage = Baggage(headers: ["service.name=" + String(repeating: "a", count: 100_000)])
    #expect(baggage?.canonicalName?.count == Baggage.maximumValueLength)
  }

  @Test("no baggage is empty baggage")
  func none() {
    #expect(Baggage(headers: []) == Baggage())
    #expect(Baggage(headers: [""]) == Baggage())
  }
}
