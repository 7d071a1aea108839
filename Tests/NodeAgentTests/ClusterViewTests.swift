import Kubernetes
import Testing
import Vocabulary

@testable import NodeAgent

@Suite("What follows from the cluster's state")
struct ClusterViewTests {
  private static let ambient = ["istio.io/dataplane-mode": "ambient"]

  private static func pod(
    _ name: String, uid: String? = nil, ip: String? = "10.0.0.1", annotations: [String: String] = [:],
    phase: String = "Running", version: String = ""
  ) -> Pod {
    Pod(
      meta: ObjectMeta(
        name: name, namespace: "shop", uid: uid ?? "u-\(name)", resourceVersion: version, annotations: annotations),
      serviceAccountName: "sa", phase: phase, addresses: ip.flatMap { IPAddress($0) }.map { [$0] } ?? [])
  }

  private static func namespace(
    _ labels: [String: String] = ambient, uid: String = "", version: String = ""
  ) -> Namespace {
    Namespace(meta: ObjectMeta(name: "shop", uid: uid, resourceVersion: version, labels: labels))
  }

  /// A view of the namespace `shop`, with these labels and pods.
  private static func view(_ pods: Pod..., labels: [String: String] = ambient, touched: Set<String> = []) -> ClusterView
  {
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
    view.receive(ObjectChange<Pod>.deleted(ObjectReference(namespace: "shop", name: "b"), uid: "u-b"))
    #expect(view.workloads.isEmpty)
  }

  @Test("a new list forgets what is not in it, but nothing that could not be read")
  func replaced() {
    var view = Self.view(Self.pod("a"), Self.pod("b"), Self.pod("c"))
    view.receive(
      .replaced([Self.pod("a")], unreadable: [ObjectReference(namespace: "shop", name: "b")]))
    #expect(Self.names(view, inMesh: true) == ["a", "b"])
  }

  @Test("a new sandbox has the addresses that the plugin tells, while the cluster still shows those of the one before")
  func newSandbox() throws {
    var view = Self.view(Self.pod("a", ip: "10.0.0.1"))
    let address = try #require(IPAddress("10.0.0.2"))
    view.admit(Self.pod("a"), in: Self.namespace(), .init(path: "/y", containerID: "c2", addresses: [address]))
    let placement = PodPlacement(uid: "u-a", addresses: [address], sandbox: "/y")
    #expect(view.workloads.first?.location == .pod(placement))
    view.receive(.changed(Self.pod("a", ip: "10.0.0.1")))
    #expect(view.workloads.first?.location == .pod(placement))
  }

  @Test("a pod that the plugin tells of is wanted at once, with its sandbox, and stays when the watch shows it")
  func admitted() throws {
    var view = Self.view()
    let early = Self.pod("a", ip: nil)
    let address = try #require(IPAddress("10.0.0.9"))
    view.admit(early, in: Self.namespace(), .init(path: "/run/netns/x", containerID: "c", addresses: [address]))
    let placement = PodPlacement(uid: "u-a", addresses: [address], sandbox: "/run/netns/x")
    #expect(view.workloads.map(\.location) == [.pod(placement)])
    view.receive(ObjectChange<Pod>.replaced([], unreadable: []))
    #expect(view.workloads.map(\.location) == [.pod(placement)])
    view.receive(.changed(early))
    #expect(!view.isUnconfirmed("u-a"))
    #expect(view.workloads.map(\.location) == [.pod(placement)])
  }

  @Test("a pod that only the plugin told of goes when the server does not know it, and not when it does")
  func unconfirmed() {
    var view = Self.view()
    view.admit(Self.pod("a"), in: Self.namespace(), .init(path: "/x", addresses: []))
    #expect(view.isUnconfirmed("u-a"))
    view.dropUnconfirmed("u-other")
    #expect(view.workloads.count == 1)
    view.dropUnconfirmed("u-a")
    #expect(view.workloads.isEmpty)
    view.admit(Self.pod("b"), in: Self.namespace(), .init(path: "/x", addresses: []))
    view.receive(.changed(Self.pod("b")))
    view.dropUnconfirmed("u-b")
    #expect(Self.names(view, inMesh: true) == ["b"], "the watch has shown it meanwhile")
  }

  @Test("late news of a pod that is gone leave its successor of the same name alone")
  func successor() {
    let (old, new) = (Self.pod("a", uid: "old"), Self.pod("a", uid: "new"))
    func uids(_ view: ClusterView) -> [String] { view.workloads.map(\.uid.text).sorted() }
    var view = Self.view(old)
    view.admit(new, in: Self.namespace(), .init(path: "/x", addresses: []))
    view.receive(.changed(old))
    #expect(uids(view) == ["new", "old"])
    view.receive(ObjectChange<Pod>.deleted(old.meta.reference, uid: "old"))
    #expect(uids(view) == ["new"])
    view.receive(.changed(new))
    view.receive(ObjectChange<Pod>.deleted(old.meta.reference, uid: "old"))
    #expect(uids(view) == ["new"])
    view.receive(.changed(Self.pod("a", uid: "newest")))
    #expect(uids(view) == ["newest"], "the watch shows one pod of a name at a time")
    view.receive(ObjectChange<Pod>.deleted(old.meta.reference, uid: ""))
    #expect(uids(view) == [], "a server that does not say which means the one that it showed")
  }

  @Test("a watch that is behind does not undo what the server said when it was asked")
  func older() {
    var view = Self.view(Self.pod("a", version: "5"), labels: [:])
    view.receive(.changed(Self.namespace([:], version: "5")))
    view.admit(Self.pod("a", version: "9"), in: Self.namespace(version: "9"), .init(path: "/x", addresses: []))
    #expect(Self.names(view, inMesh: true) == ["a"])
    view.receive(.changed(Self.namespace([:], version: "6")))
    view.receive(.replaced([Self.namespace([:], version: "6")], unreadable: []))
    view.receive(.changed(Self.pod("a", phase: "Succeeded", version: "7")))
    #expect(Self.names(view, inMesh: true) == ["a"])
    view.receive(.changed(Self.namespace([:], version: "10")))
    #expect(Self.names(view, inMesh: true) == [])
  }

  @Test(
    "a namespace that goes before its pods do keeps what it said until they are gone",
    arguments: [
      ObjectChange<Namespace>.deleted(ObjectReference(namespace: "", name: "shop"), uid: ""),
      .replaced([], unreadable: []),
    ])
  func namespaceGoesFirst(change: ObjectChange<Namespace>) {
    var view = Self.view(Self.pod("a"))
    view.receive(change)
    #expect(Self.names(view, inMesh: true) == ["a"])
    #expect(view.namespace("shop") == nil, "nobody new starts on its word")
    view.receive(ObjectChange<Pod>.deleted(ObjectReference(namespace: "shop", name: "a"), uid: "u-a"))
    view.receive(.changed(Self.pod("b")))
    #expect(view.workloads.isEmpty)
  }

  @Test("the end of a namespace's predecessor says nothing about it")
  func namespaceAnew() {
    var view = Self.view(Self.pod("a"))
    view.receive(.changed(Self.namespace(uid: "new", version: "9")))
    view.receive(ObjectChange<Namespace>.deleted(ObjectReference(namespace: "", name: "shop"), uid: "old"))
    #expect(view.namespace("shop") != nil)
  }

  @Test(
    "until the server has said everything, what an earlier run had in the mesh is wanted; then what the server says")
  func remembered() throws {
    let address = try #require(IPAddress("10.0.0.1"))
    func known(_ name: String) -> RememberedPod {
      RememberedPod(
        uid: "u-\(name)", info: .init(name: name, namespace: "shop", serviceAccount: "sa"), addresses: [address],
        annotations: .init(), sandbox: nil)
    }
    var view = ClusterView(
      rules: EnrolmentRules(selectors: EnablementSelector.standard),
      remembered: ["u-a": known("a"), "u-b": known("b"), "u-c": known("c")])
    #expect(Self.names(view, inMesh: true) == ["a", "b", "c"])
    #expect(view.touched == ["u-a", "u-b", "u-c"])
    view.release("u-c")
    #expect(Self.names(view, inMesh: true) == ["a", "b"])
    view.endRelease("u-c")
    view.receive(
      ObjectChange<Pod>.replaced(
        [Self.pod("a")], unreadable: [ObjectReference(namespace: "shop", name: "b")]))
    #expect(Self.names(view, inMesh: true) == ["a", "b", "c"], "the namespaces are not known yet")
    view.receive(ObjectChange<Namespace>.replaced([], unreadable: [ObjectReference(namespace: "", name: "shop")]))
    #expect(Self.names(view, inMesh: true) == ["a", "b"], "neither can be read, so both stay what they were")
    view.receive(.changed(Self.namespace([:])))
    #expect(Self.names(view, inMesh: true) == ["b"])
  }

  @Test("a sandbox that is taken down lets go of its pod until there is another")
  func released() {
    var view = Self.view(Self.pod("a"))
    view.admit(Self.pod("a"), in: Self.namespace(), .init(path: "/x", containerID: "c1", addresses: []))
    #expect(view.owner(path: "/x", containerID: "c2") == nil)
    #expect(view.owner(path: nil, containerID: "c1") == "u-a")
    view.release("u-a")
    #expect(view.workloads.isEmpty)
    view.admit(Self.pod("a"), in: Self.namespace(), .init(path: "/y", containerID: "c2", addresses: []))
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
