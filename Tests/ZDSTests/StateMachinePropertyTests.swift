import Testing

@testable import ZDS

@Suite("State machines under random input")
struct StateMachinePropertyTests {
  @Test(
    "ztunnel answers each instruction once, never drains twice, and runs what was started and not drained",
    arguments: [UInt64(1), 2, 3, 4, 5, 6])
  func workloadManager(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var manager = WorkloadManager<FakeNamespace>()
    var starting: [ProxyID] = []
    var alive: Set<ProxyID> = []
    var waitsForAnswer = false
    var connected = false

    func give(_ input: WorkloadManager<FakeNamespace>.Input) {
      for action in manager.receive(input) {
        switch action {
        case .start(let start): starting.append(start.id)
        case .drain(let id, _):
          if case .startSucceeded(id) = input { continue }
          #expect(alive.remove(id) != nil, "drained what did not run")
        case .answer:
          #expect(waitsForAnswer, "answered without having been asked")
          waitsForAnswer = false
        case .armRetryTimer, .readiness: break
        }
      }
    }

    for _ in 0..<5000 {
      let id = uid("u\(Int.random(in: 0..<4, using: &random))")
      switch Int.random(in: 0..<12, using: &random) {
      case 0:
        if connected {
          waitsForAnswer = false
          give(.disconnected)
        } else {
          give(.connected)
        }
        connected.toggle()
      case 1...4 where !starting.isEmpty:
        let proxy = starting.remove(at: Int.random(in: 0..<starting.count, using: &random))
        if Bool.random(using: &random) {
          let before = manager.runningCount
          give(.startSucceeded(proxy))
          if manager.runningCount > before { alive.insert(proxy) }
        } else {
          give(.startFailed(proxy, reason: "bind"))
        }
      case 5: give(.retryTimerFired)
      default:
        guard connected, !waitsForAnswer else { continue }
        waitsForAnswer = true
        let instruction: WorkloadInstruction<FakeNamespace> =
          switch Int.random(in: 0..<8, using: &random) {
          case 0: .keep(id)
          case 1, 2: .delete(id)
          case 3: .snapshotSent
          default: .add(id, someInfo, in: FakeNamespace(inode: .random(in: 1...2, using: &random)))
          }
        give(.instruction(instruction))
      }
      #expect(manager.runningCount == alive.count)
      #expect(!manager.isReady || (connected && manager.pendingCount == 0))
    }
  }

  @Test(
    "the agent has one request outstanding at most, and every request one outcome",
    arguments: [UInt64(1), 2, 3, 4, 5, 6])
  func agentSession(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    for _ in 0..<300 {
      var session = AgentSession<FakeNamespace>()
      var outstanding = 0
      var submitted: Set<UInt64> = []
      var finished: Set<UInt64> = []
      var deadline = AgentSession<FakeNamespace>.firstDeadline

      func give(_ input: AgentSession<FakeNamespace>.Input) throws {
        if case .packet = input { outstanding = max(0, outstanding - 1) }
        for action in session.receive(input) {
          switch action {
          case .send: outstanding += 1
          case .armDeadline(let number): deadline = number
          case .finished(let ticket, _), .identityTold(let ticket, _):
            #expect(finished.insert(ticket).inserted, "two outcomes")
          case .askSnapshot: try give(.snapshot([.keep(uid("s1")), .keep(uid("s2"))]))
          case .snapshotEntryRefused, .keepSockets, .becameLive, .close: break
          }
        }
        #expect(outstanding <= 1)
      }

      try give(.packet(ZDSHello().encoded()))
      for ticket in 0..<UInt64(40) {
        submitted.insert(ticket)
        try give(.submit(ticket, Bool.random(using: &random) ? .delete(uid("u")) : .identity(of: uid("u"))))
        switch Int.random(in: 0..<40, using: &random) {
        case 0: try give(.deadline(deadline))
        case 1: try give(.deadline(deadline - 1))
        case 2: try give(.packet((0..<4).map { _ in .random(in: 0...255, using: &random) }))
        case 3...20 where outstanding > 0: try give(.packet(ZDSResponse.acknowledged.encoded()))
        case 21...30 where outstanding > 0: try give(.packet(ZDSResponse.refused("no").encoded()))
        default: break
        }
      }
      try give(.stop)
      #expect(finished == submitted)
    }
  }
}
