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
    state.update([.upsertWorkload(workload("a"))])
    state.update([.upsertWorkload(workload("a"))])
    state.update([.removeAddress(name: "b")])
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
    state.update([.upsertWorkload(workload("c")), .removeAddress(name: "a")])
    #expect(latest?.allWorkloads.map { $0.uid }.sorted() == ["b", "c"])
  }

  @Test("what a file changes while an update is put together stays changed, and is seen at once")
  func meanwhile() throws {
    var latest: MeshSnapshot?
    let state = MeshState(settings: MeshSettings()) { snapshot, _ in latest = snapshot }
    var update = state.beginUpdate()
    update.apply([.upsertWorkload(workload("control-plane"))])
    #expect(latest == nil, "readers see complete updates only")
    state.publish(state.load([.upsertWorkload(workload("file"))]))
    #expect(latest?.allWorkloads.map { $0.uid } == ["file"])
    state.finish(update, update.delta)
    #expect(latest?.allWorkloads.map { $0.uid }.sorted() == ["control-plane", "file"])
  }
}

extension MeshState {
  /// An update as the control plane makes it.
  fileprivate func update(_ changes: [MeshChange]) {
    var update = beginUpdate()
    update.apply(changes)
    finish(update, update.delta)
  }
}
