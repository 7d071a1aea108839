import Testing

@testable import ZDS

@Suite("Requests to several ztunnels")
struct FanOutTests {
  func text(_ outcome: Result<Void, ZDSError>?) -> String {
    switch outcome {
    case nil: "waiting"
    case .success: "done"
    case .failure(let error): error.code
    }
  }

  let both = [FanOut.Target(connection: 1, live: true), .init(connection: 2, live: true)]

  @Test("an add without a ztunnel fails at once, a delete is done at once")
  func nobody() {
    var add = FanOut(.add, to: [])
    #expect(text(add.begin()) == "ZDS_NOT_CONNECTED")
    var delete = FanOut(.delete, to: [])
    #expect(text(delete.begin()) == "done")
  }

  @Test("an add is done when the newest has it, whatever the older one says")
  func newestDecides() {
    var add = FanOut(.add, to: both)
    #expect(text(add.begin()) == "waiting")
    #expect(text(add.receive(.failure(.refused("older")), from: 1)) == "waiting")
    #expect(text(add.receive(.success(()), from: 2)) == "done")
  }

  @Test("an add is refused when the newest refuses it, though the older one took it")
  func newestRefuses() {
    var add = FanOut(.add, to: both)
    #expect(text(add.receive(.success(()), from: 1)) == "waiting")
    #expect(text(add.receive(.failure(.refused("newest")), from: 2)) == "ZDS_REFUSED")
  }

  @Test("when the newest goes away, the one before decides")
  func newestDies() {
    var add = FanOut(.add, to: both)
    #expect(text(add.receive(.failure(.closedByPeer), from: 2)) == "waiting")
    #expect(text(add.receive(.success(()), from: 1)) == "done")
  }

  @Test("when all go away, the add fails with the last reason")
  func allDie() {
    var add = FanOut(.add, to: both)
    _ = add.receive(.failure(.closedByPeer), from: 2)
    #expect(text(add.receive(.failure(.acknowledgementTimeout(request: "r")), from: 1)) == "ZDS_ACK_TIMEOUT")
  }

  @Test("one that still receives its snapshot does not hold up an add that a live one has")
  func liveBeforeSnapshot() {
    var add = FanOut(.add, to: [.init(connection: 1, live: true), .init(connection: 2, live: false)])
    #expect(text(add.receive(.success(()), from: 1)) == "done")
  }

  @Test("a delete waits for all, and neither a refusal nor an end is its failure")
  func deletes() {
    var delete = FanOut(.delete, to: both)
    #expect(text(delete.receive(.failure(.refused("x")), from: 2)) == "waiting")
    #expect(text(delete.receive(.failure(.closedByPeer), from: 1)) == "done")
  }

  @Test("the outcome is given once")
  func once() {
    var add = FanOut(.add, to: both)
    #expect(text(add.receive(.success(()), from: 2)) == "done")
    #expect(text(add.receive(.success(()), from: 1)) == "waiting")
  }
}
