import JSON
import Testing

@testable import Kubernetes

@Suite("Listing and watching, as a value")
struct ListWatchTests {
  private typealias Machine = ListWatch<Namespace>

  private static func namespace(_ name: String, _ version: String) -> Namespace {
    Namespace(meta: ObjectMeta(name: name, resourceVersion: version))
  }

  /// A machine that watches from version 5.
  private static func watching() -> Machine {
    var machine = Machine(jitter: { 0.5 })
    _ = machine.receive(.start)
    _ = machine.receive(.page(ObjectPage(objects: [], resourceVersion: "5")))
    return machine
  }

  private static let trouble = KubernetesError.unreachable(server: "s", reason: "r")

  private static func refusal(_ status: Int) -> KubernetesError {
    .refused(request: "r", status: status, reason: "", message: "")
  }

  @Test("it begins with what the server has at hand, and goes on with a watch from there")
  func start() {
    var machine = Machine(jitter: { 0.5 })
    #expect(machine.receive(.start) == [.list(.cached)])
    let a = Self.namespace("a", "3")
    #expect(
      machine.receive(.page(ObjectPage(objects: [a], resourceVersion: "5")))
        == [.deliver(.replaced([a], unreadable: [])), .watch(from: "5")])
  }

  @Test("failures wait longer and longer, with jitter, up to a limit; success starts over")
  func backOff() {
    var machine = Machine(jitter: { 0.5 })
    _ = machine.receive(.start)
    var delays: [Duration] = []
    for _ in 0..<9 {
      for case .wait(let delay) in machine.receive(.listFailed(Self.trouble)) { delays.append(delay) }
      #expect(machine.receive(.waited) == [.list(.cached)])
    }
    let milliseconds = [250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]
    #expect(delays == milliseconds.map { .milliseconds($0) })
    _ = machine.receive(.page(ObjectPage(objects: [], resourceVersion: "5")))
    #expect(machine.receive(.watchEnded(Self.trouble)) == [.report(Self.trouble), .wait(.milliseconds(250))])
  }

  @Test("a watch that breaks goes on from the newest version heard of")
  func resumes() {
    var machine = Self.watching()
    let b = Self.namespace("b", "8")
    #expect(machine.receive(.change(.changed(b))) == [.deliver(.changed(b))])
    _ = machine.receive(.watchEnded(Self.trouble))
    #expect(machine.receive(.waited) == [.watch(from: "8")])
  }

  @Test("a watch that ends in silence at once is not repeated without a pause")
  func silentEnd() {
    var machine = Self.watching()
    #expect(machine.receive(.watchEnded(nil)) == [.wait(.milliseconds(250))])
    _ = machine.receive(.change(.bookmark("6")))
    #expect(machine.receive(.watchEnded(nil)) == [.watch(from: "6")])
  }

  @Test("a new list is not older than what is known, unless that is not to be had", arguments: [410, 504])
  func relist(status: Int) {
    var machine = Self.watching()
    let unreadable = KubernetesError.notJSON(subject: "s", reason: "r")
    _ = machine.receive(.watchEnded(unreadable))
    #expect(machine.receive(.waited) == [.list(.atLeast("5"))])
    _ = machine.receive(.listFailed(Self.refusal(status)))
    #expect(machine.receive(.waited) == [.list(.consistent)])
  }

  @Test("a page that is not to be had any more throws away the pages before it")
  func brokenPages() {
    var machine = Machine(jitter: { 0.5 })
    _ = machine.receive(.start)
    let (a, b) = (Self.namespace("a", "1"), Self.namespace("b", "2"))
    #expect(
      machine.receive(.page(ObjectPage(objects: [a], resourceVersion: "4", continueToken: "t"))) == [.list(.next("t"))])
    _ = machine.receive(.listFailed(Self.refusal(410)))
    #expect(machine.receive(.waited) == [.list(.consistent)])
    #expect(
      machine.receive(.page(ObjectPage(objects: [b], resourceVersion: "9"))).first
        == .deliver(.replaced([b], unreadable: [])))
  }

  @Test("jitter spreads delays from half to one and a half of their length")
  func jitter() {
    var (low, high) = (BackOff(), BackOff())
    #expect(low.delay(jitter: 0) == .milliseconds(125))
    #expect(high.delay(jitter: 1) == .milliseconds(375))
  }
}
