import Kubernetes
import Testing
import Vocabulary

@testable import NodeAgent

@Suite("What follows from the cluster's state")
struct ClusterViewTests {
  private static let ambient = ["istio.io/dataplane-mode": "ambient"]

  private static func pod(
    _ name: String, uid: String? = nil, ip: String? = "10.0.0.1", annotations: [String: String] = [:],
    phase: String = "Running"
  ) -> Pod {
    Pod(
      meta: ObjectMeta(name: name, namespace: "shop", uid: uid ?? "u-\(name)", annotations: annotations),
      serviceAccountName: "sa", phase: phase, addresses: ip.flatMap { IPAddress($0) }.map { [$0] } ?? [])
  }

  private static func namespace(_ labels: [String: String]) -> Namespace {
    Namespace(meta: ObjectMeta(name: "shop", labels: labels))
  }

  /// A view of the namespace `shop`, with these labels and pods.
  private static func view(_ pods: Pod..., labels: [String: String] = ambient, touched: Set<String> = []) -> ClusterView {
    var view = ClusterView(rules: EnrolmentRules(selectors: EnablementSelector.standard), touched: touched)
    view.receive(ObjectChange<Namespace>.replaced([namespace(labels)], unreadable: []))
    view.receive(ObjectChange<Pod>.replaced(pods, unreadable: []))
    return view
  }

  private static func names(_ view: ClusterView, inMesh: Bool) -> [String] {
    view.workloads.filter { $0.inMesh == inMesh }.map(\.info.name).sorted()
  }

  @Test("it is complete when both lists were read")
  func complete() {
    var view = ClusterView(rules: EnrolmentRules())
    view.receive(ObjectChange<Pod>.replaced([], unreadable: []))
    #expect(!view.isComplete)
    view.receive(ObjectChange<Namespace>.replaced([], unreadable: []))
    #expect(view.isComplete)
  }

  @Test("a pod of the mesh is wanted with its identity and what proves its namespace")
  func workload() throws {
    let workload = try #require(Self.view(Self.pod("a")).workloads.first)
    #expect(workload.uid.text == "u-a")
    #expect(workload.info.serviceAccount == "sa")
    #expect(
      workload.location == .pod(PodPlacement(uid: "u-a", addresses: [try #require(IPAddress("10.0.0.1"))])))
  }

  @Test("labels of a namespace that flip take its pods in and out")
  func flip() {
    var view = Self.view(Self.pod("a"), labels: [:])
    #expect(view.workloads.isEmpty)
    view.receive(.changed(Self.namespace(Self.ambient)))
    #expect(Self.names(view, inMesh: true) == ["a"])
    view.touch("u-a")
    view.receive(.changed(Self.namespace([:])))
    #expect(Self.names(view, inMesh: false) == ["a"])
    view.untouch("u-a")
    #expect(view.workloads.isEmpty)
  }

  @Test("a pod outside of the mesh that an earlier agent wrote into, or says it did, is cleared")
  func leftovers() {
    let annotated = Self.pod("b", annotations: ["ambient.istio.io/redirection": "enabled"])
    let view = Self.view(Self.pod("a"), annotated, Self.pod("c"), labels: [:], touched: ["u-a"])
    #expect(Self.names(view, inMesh: false) == ["a", "b"])
  }

  @Test("a pod with a sidecar is never touched, whatever is said about it")
  func sidecar() {
    let pod = Self.pod(
      "a", annotations: ["ambient.istio.io/redirection": "enabled", "sidecar.istio.io/status": "{}"])
    #expect(Self.view(pod, touched: ["u-a"]).workloads.isEmpty)
  }

  @Test("a pod of a namespace that is not known yet waits for it")
  func unknownNamespace() {
    var view = ClusterView(rules: EnrolmentRules(selectors: EnablementSelector.standard))
    view.receive(ObjectChange<Namespace>.replaced([], unreadable: []))
    view.receive(ObjectChange<Pod>.replaced([Self.pod("a")], unreadable: []))
    #expect(view.workloads.isEmpty)
    view.receive(.changed(Self.namespace(Self.ambient)))
    #expect(Self.names(view, inMesh: true) == ["a"])
  }

  @Test("a pod that has ended, and one that is gone, are not wanted")
  func ended() {
    var view = Self.view(Self.pod("a"), Self.pod("b"))
    view.receive(.changed(Self.pod("a", phase: "Succeeded")))
    view.receive(ObjectChange<Pod>.deleted(ObjectReference(namespace: "shop", name: "b")))
    #expect(view.workloads.isEmpty)
  }

  @Test("a new list forgets what is not in it, but nothing that could not be read")
  func replaced() {
    var view = Self.view(Self.pod("a"), Self.pod("b"), Self.pod("c"))
    view.receive(
      .replaced([Self.pod("a")], unreadable: [ObjectReference(namespace: "shop", name: "b")]))
    #expect(Self.names(view, inMesh: true) == ["a", "b"])
  }

  @Test("a pod that the plugin tells of is wanted at once, with its sandbox, and stays when the watch shows it")
  func admitted() throws {
    var view = Self.view()
    let early = Self.pod("a", ip: nil)
    let address = try #require(IPAddress("10.0.0.9"))
    view.admit(early, namespace: Self.ambient, .init(path: "/run/netns/x", containerID: "c", addresses: [address]))
    let placement = PodPlacement(uid: "u-a", addresses: [address], sandbox: "/run/netns/x")
    #expect(view.workloads.map(\.location) == [.pod(placement)])
    view.receive(ObjectChange<Pod>.replaced([], unreadable: []))
    #expect(view.workloads.map(\.location) == [.pod(placement)])
    view.receive(.changed(early))
    #expect(!view.isUnconfirmed(early.meta.reference))
    #expect(view.workloads.map(\.location) == [.pod(placement)])
  }

  @Test("a pod that only the plugin ever told of is forgotten after a while")
  func unconfirmed() {
    var view = Self.view()
    let pod = Self.pod("a")
    view.admit(pod, namespace: Self.ambient, .init(path: "/x", addresses: []))
    view.dropUnconfirmed(pod.meta.reference)
    #expect(view.workloads.isEmpty)
  }

  @Test("a sandbox that is taken down lets go of its pod until there is another")
  func released() {
    var view = Self.view(Self.pod("a"))
    view.admit(Self.pod("a"), namespace: Self.ambient, .init(path: "/x", containerID: "c1", addresses: []))
    #expect(view.owner(path: "/x", containerID: "c2") == nil)
    #expect(view.owner(path: nil, containerID: "c1") == "u-a")
    view.release("u-a")
    #expect(view.workloads.isEmpty)
    view.admit(Self.pod("a"), namespace: Self.ambient, .init(path: "/y", containerID: "c2", addresses: []))
    #expect(view.workloads.count == 1)
    #expect(view.owner(path: "/x", containerID: "c1") == nil)
  }

  @Test("without being told, another sandbox shows by its address, or is looked for after a while")
  func releasedWithoutPlugin() {
    var view = Self.view(Self.pod("a"))
    view.release("u-a")
    view.receive(.changed(Self.pod("a")))
    #expect(view.workloads.isEmpty)
    view.receive(.changed(Self.pod("a", ip: "10.0.0.7")))
    #expect(view.workloads.count == 1)
    view.release("u-a")
    view.endRelease("u-a")
    #expect(view.workloads.count == 1)
  }

  @Test("annotations count, and one that makes no sense counts as none")
  func annotations() throws {
    let pod = Self.pod(
      "a", annotations: ["ambient.istio.io/dns-capture": "true", "ambient.istio.io/bypass-inbound-capture": "maybe"])
    let wishes = try #require(Self.view(pod).workloads.first).annotations
    #expect(wishes.dnsCapture == true)
    #expect(wishes.bypassInboundCapture == nil)
    #expect(CaptureAnnotations.of(pod.meta.annotations).refused.map(\.0) == ["ambient.istio.io/bypass-inbound-capture"])
  }
}
