import Testing
import Vocabulary

@testable import Mesh

@Suite struct SharingTests {
  @Test("equal values become one, and it is the first")
  func shares() {
    var pool = SharingPool<String>()
    let first = Shared("a")
    #expect(pool.shared(first) === first)
    #expect(pool.shared(Shared("a")) === first)
    #expect(pool.shared(Shared("b")) !== first)
    #expect(pool.count == 2)
  }

  @Test("a bounded number is remembered, and what is still asked for stays")
  func bounded() {
    var pool = SharingPool<Int>(limit: 10)
    let kept = Shared(-1)
    for number in 0..<1000 {
      #expect(pool.shared(Shared(-1)) == kept)
      let shared = pool.shared(kept)
      _ = pool.shared(Shared(number))
      #expect(pool.shared(Shared(-1)) === shared)
      #expect(pool.count <= 20)
    }
  }

  @Test("a record's fields are its template's and its placement's, and a copy changes alone")
  func record() {
    let record = Workload.Record.pod("a", "10.0.0.1") { $0.node = "n" }
    var copy = record
    copy.namespace = "other"
    copy.locality.zone = "z"
    #expect(record.namespace == "shop" && record.locality.zone == "")
    #expect(copy.template.namespace == "other" && copy.placement == .init(node: "n", locality: .init(zone: "z")))
    #expect(copy != record)
    copy.namespace = "shop"
    copy.locality.zone = ""
    #expect(copy == record && copy.hashValue == record.hashValue)
  }
}

extension SharingTests {
  @Test("a name is what it was set to, be it the end of the uid or not, and stays when the uid changes")
  func name() {
    var record = Workload.Record(uid: "c//Pod/ns/web-1")
    #expect(record.name == "")
    for name in ["web-1", "other", "", "ns/web-1"] {
      record.name = name
      #expect(record.name == name)
    }
    record.name = "web-1"
    record.uid = "moved"
    #expect(record.name == "web-1")
    var late = Workload.Record(uid: "")
    late.name = "web-1"
    late.uid = "c//Pod/ns/web-1"
    record.uid = "c//Pod/ns/web-1"
    #expect(late == record && late.name == "web-1")
  }
}
