import Linux
import Mesh
import Testing
import Vocabulary

@testable import Ztunnel

@Suite("Mesh state")
struct MeshStateTests {
  private func workload(_ uid: String) -> Workload.Record {
    var record = Workload.Record(uid: uid)
    record.namespace = "ns"
    return record
  }

  @Test("what changes nothing is told to nobody")
  func unchanged() {
    var published: [Set<String>] = []
    let state = MeshState(settings: MeshSettings()) { published.append($1.changedWorkloads) }
    state.apply([.upsertWorkload(workload("a"))])
    state.apply([.upsertWorkload(workload("a"))])
    state.apply([.removeAddress(name: "b")])
    #expect(published == [["a"]])
  }

  @Test("a file comes first, and the control plane changes and adds to what it says")
  func fileFirst() throws {
    var latest: MeshSnapshot?
    let state = MeshState(settings: MeshSettings()) { snapshot, _ in latest = snapshot }
    let document = """
      workloads:
      - {uid: a, name: a, namespace: ns, workloadIps: [10.0.0.1], services: {}}
      - {uid: b, name: b, namespace: ns, workloadIps: [10.0.0.2], services: {}}
      """
    let source = try MeshFileSource(.inline(document), into: state, on: EventLoop(name: "control"))
    #expect(latest == nil, "told at the start")
    source.start()
    #expect(latest?.workloadCount == 2)
    state.apply([.upsertWorkload(workload("c")), .removeAddress(name: "a")])
    #expect(latest?.allWorkloads.map { $0.uid }.sorted() == ["b", "c"])
  }
}
