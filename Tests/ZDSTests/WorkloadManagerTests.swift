import Testing

@testable import ZDS

/// Drives a manager with short words and reads what it did in short words.
private struct Script {
  typealias Manager = WorkloadManager<FakeNamespace>
  var manager = Manager()
  private var lastStart: [String: ProxyID] = [:]

  mutating func add(_ text: String, _ inode: UInt64 = 1, account: String = "c") -> [String] {
    let info = WorkloadInfo(name: "a", namespace: "b", serviceAccount: account)
    return give(.instruction(.add(uid(text), info, in: FakeNamespace(inode: inode))))
  }
  mutating func keep(_ text: String) -> [String] { give(.instruction(.keep(uid(text)))) }
  mutating func delete(_ text: String) -> [String] { give(.instruction(.delete(uid(text)))) }
  mutating func snapshotSent() -> [String] { give(.instruction(.snapshotSent)) }
  mutating func succeed(_ text: String) -> [String] {
    lastStart[text].map { give(.startSucceeded($0)) } ?? ["nothing was started"]
  }
  mutating func fail(_ text: String) -> [String] {
    lastStart[text].map { give(.startFailed($0, reason: "bind")) } ?? ["nothing was started"]
  }
  mutating func run(_ text: String, _ inode: UInt64 = 1) {
    _ = add(text, inode)
    _ = succeed(text)
  }
  /// Connected, with the whole snapshot.
  mutating func goLive() {
    _ = give(.connected)
    _ = snapshotSent()
  }

  mutating func give(_ input: Manager.Input) -> [String] {
    manager.receive(input).map {
      switch $0 {
      case .start(let start):
        lastStart[start.id.uid.text] = start.id
        return "start \(start.id) in \(start.namespace.inode)"
      case .drain(let id, let mode): return "drain \(id) \(mode)"
      case .answer(.acknowledge): return "ack"
      case .answer(.refuse(let reason)): return "nack \(reason)"
      case .answer(.refuseAndClose(let error)): return "close \(error.code)"
      case .armRetryTimer: return "arm"
      case .readiness(let ready): return ready ? "ready" : "not ready"
      }
    }
  }
}

@Suite("Ztunnel's workloads")
struct WorkloadManagerTests {
  @Test("an add is acknowledged only once its proxy runs")
  func add() {
    var script = Script()
    script.goLive()
    #expect(script.add("u1", 7) == ["start u1#1 in 7"])
    #expect(script.succeed("u1") == ["ack"])
    #expect(script.manager.runningCount == 1)
  }

  @Test("adding what runs already changes nothing")
  func idempotent() {
    var script = Script()
    script.goLive()
    script.run("u1")
    #expect(script.add("u1") == ["ack"])
  }

  @Test("another namespace replaces the proxy, the old one first")
  func replacedNamespace() {
    var script = Script()
    script.goLive()
    script.run("u1", 1)
    #expect(script.add("u1", 2) == ["drain u1#1 immediate", "start u1#2 in 2"])
  }

  @Test("another service account in the same namespace replaces the proxy")
  func replacedInfo() {
    var script = Script()
    script.goLive()
    script.run("u1")
    #expect(script.add("u1", account: "other") == ["drain u1#1 immediate", "start u1#2 in 1"])
    #expect(script.succeed("u1") == ["ack"])
    #expect(script.manager.workloads[uid("u1")]?.info.serviceAccount == "other")
  }

  @Test("a failed start lowers readiness at once, is refused, and is tried again")
  func retry() {
    var script = Script()
    script.goLive()
    _ = script.add("u1")
    #expect(script.fail("u1") == ["not ready", "nack bind", "arm"])
    #expect(script.manager.pendingCount == 1)
    #expect(script.give(.retryTimerFired) == ["start u1#2 in 1"])
    #expect(script.fail("u1") == ["arm"])
    #expect(script.give(.retryTimerFired) == ["start u1#3 in 1"])
    #expect(script.succeed("u1") == ["ready"])
    #expect(script.manager.pendingCount == 0)
  }

  @Test("one timer serves all that failed")
  func oneTimer() {
    var script = Script()
    script.goLive()
    _ = script.add("u1")
    _ = script.fail("u1")
    _ = script.add("u2")
    #expect(script.fail("u2") == ["nack bind"])
    #expect(script.give(.retryTimerFired) == ["start u1#3 in 1", "start u2#4 in 1"])
  }

  @Test("an add during its own retry waits for that retry's outcome")
  func addDuringRetry() {
    var script = Script()
    script.goLive()
    _ = script.add("u1")
    _ = script.fail("u1")
    _ = script.give(.retryTimerFired)
    #expect(script.add("u1") == [])
    #expect(script.succeed("u1") == ["ready", "ack"])
  }

  @Test("readiness comes with the snapshot's end and goes with the connection")
  func readiness() {
    var script = Script()
    #expect(script.give(.connected) == [])
    #expect(script.snapshotSent() == ["ready", "ack"])
    #expect(script.give(.disconnected) == ["not ready"])
  }

  @Test("the snapshot's end drains what it did not name, and nothing before it does")
  func reconcile() {
    var script = Script()
    script.goLive()
    for name in ["u1", "u2", "u3"] { script.run(name) }
    #expect(script.give(.disconnected) == ["not ready"])
    #expect(script.give(.connected) == [])
    #expect(script.add("u1") == ["ack"])
    #expect(script.keep("u2") == ["ack"])
    #expect(script.snapshotSent() == ["ready", "drain u3#3 removal", "ack"])
    #expect(script.manager.runningCount == 2)
  }

  @Test("a delete before the snapshot's end takes effect with it")
  func deleteDuringSnapshot() {
    var script = Script()
    script.goLive()
    script.run("u1")
    _ = script.give(.disconnected)
    _ = script.give(.connected)
    _ = script.add("u1")
    #expect(script.delete("u1") == ["ack"])
    #expect(script.manager.runningCount == 1)
    #expect(script.snapshotSent() == ["ready", "drain u1#1 removal", "ack"])
  }

  @Test("a delete cuts at once, and one of something unknown is fine")
  func delete() {
    var script = Script()
    script.goLive()
    script.run("u1")
    #expect(script.delete("u1") == ["drain u1#1 removal", "ack"])
    #expect(script.delete("u1") == ["ack"])
    #expect(script.manager.workloads.isEmpty)
  }

  @Test("a workload that was only ever pending leaves the admin dump when deleted")
  func deletePending() {
    var script = Script()
    script.goLive()
    _ = script.add("u1")
    _ = script.fail("u1")
    #expect(script.manager.workloads[uid("u1")]?.state == .pending)
    #expect(script.delete("u1") == ["ready", "ack"])
    #expect(script.manager.workloads.isEmpty)
    #expect(script.give(.retryTimerFired) == [])
  }

  @Test("what was deleted while it started is drained when it turns up")
  func deleteDuringRetry() {
    var script = Script()
    script.goLive()
    _ = script.add("u1")
    _ = script.fail("u1")
    _ = script.give(.retryTimerFired)
    _ = script.delete("u1")
    #expect(script.succeed("u1") == ["drain u1#2 immediate"])
    #expect(script.manager.runningCount == 0)
  }

  @Test("what could not start survives a reconnect when the agent keeps it, and only then")
  func keepPending() {
    var script = Script()
    script.goLive()
    for name in ["u1", "u2"] {
      _ = script.add(name)
      _ = script.fail(name)
    }
    _ = script.give(.disconnected)
    _ = script.give(.connected)
    _ = script.keep("u1")
    #expect(script.snapshotSent() == ["ack"])
    #expect(script.manager.pendingCount == 1)
    #expect(script.give(.retryTimerFired) == ["start u1#3 in 1"])
    #expect(script.succeed("u1") == ["ready"])
  }

  @Test("a keep never starts anything")
  func keepUnknown() {
    var script = Script()
    _ = script.give(.connected)
    #expect(script.keep("u1") == ["ack"])
    #expect(script.manager.workloads.isEmpty)
  }

  @Test("a keep after the snapshot and a second snapshot close the connection, and the proxies run on")
  func protocolErrors() {
    var script = Script()
    script.goLive()
    script.run("u1")
    #expect(script.keep("u1") == ["close ZDS_KEEP_AFTER_SNAPSHOT"])
    #expect(script.snapshotSent() == ["close ZDS_REPEATED_SNAPSHOT"])
    #expect(script.manager.runningCount == 1)
  }

  @Test("a descriptor that is no namespace is refused, and does not cost a running proxy its place")
  func unusableNamespace() {
    var script = Script()
    script.goLive()
    script.run("u1")
    _ = script.give(.disconnected)
    _ = script.give(.connected)
    let actions = script.give(.instruction(.addWithoutNamespace(uid("u1"), .notANetworkNamespace(subject: "x"))))
    #expect(actions.count == 1 && actions.first?.hasPrefix("nack NETNS_WRONG_TYPE") == true)
    #expect(script.snapshotSent() == ["ready", "ack"])
    #expect(script.manager.runningCount == 1)
  }

  @Test("a start that outlives its connection does not answer on the next one")
  func answerOfAnOldConnection() {
    var script = Script()
    script.goLive()
    _ = script.add("u1")
    _ = script.give(.disconnected)
    _ = script.give(.connected)
    #expect(script.succeed("u1") == [])
    #expect(script.manager.runningCount == 1)
  }

  @Test("shutdown drains gracefully, starts nothing more, and drops what still starts")
  func shutDown() {
    var script = Script()
    script.goLive()
    script.run("u1")
    _ = script.add("u2")
    #expect(script.give(.shutDown) == ["drain u1#1 graceful", "close ZDS_STOPPED"])
    #expect(script.succeed("u2") == ["drain u2#2 immediate"])
    #expect(script.add("u3") == ["close ZDS_STOPPED"])
  }
}
