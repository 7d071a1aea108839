import Testing

@testable import ZDS

/// What a session did, in short.
private func names(_ actions: [AgentSession<FakeNamespace>.Action]) -> [String] {
  actions.map {
    switch $0 {
    case .askSnapshot(let hello): "hello \(hello.version)"
    case .send(let outgoing):
      switch outgoing.request {
      case .add(let uid, _): "add \(uid) in \(outgoing.namespace?.inode ?? 0)"
      case .keep(let uid): "keep \(uid)"
      case .delete(let uid): "delete \(uid)"
      case .snapshotSent: "snapshot"
      case .duty(let duty): "\(duty)"
      case .identity(let uid): "identity of \(uid)"
      }
    case .armDeadline(let number): "arm \(number)"
    case .finished(let ticket, .success): "\(ticket) done"
    case .finished(let ticket, .failure(let error)): "\(ticket) \(error.code)"
    case .snapshotEntryRefused(let uid, let text): "refused \(uid) \(text)"
    case .keepSockets(let outgoing): "sockets of \(outgoing.uid?.text ?? "nobody")"
    case .identityTold(let ticket, let isHeld): "\(ticket) held: \(isHeld.map(String.init) ?? "not said")"
    case .becameLive: "live"
    case .close(let error): "close \(error.code)"
    }
  }
}

@Suite("The agent's side of a connection")
struct AgentSessionTests {
  typealias Session = AgentSession<FakeNamespace>
  typealias Outgoing = OutgoingRequest<FakeNamespace>

  let hello = Session.Input.packet(ZDSHello().encoded())
  let ack = Session.Input.packet(ZDSResponse.acknowledged.encoded())
  func add(_ text: String, _ inode: UInt64 = 1) throws -> Outgoing {
    try .add(uid(text), someInfo, FakeNamespace(inode: inode))
  }

  func liveSession() -> Session {
    var session = Session()
    for input in [hello, .snapshot([]), ack] { _ = session.receive(input) }
    return session
  }

  @Test("hello, then one snapshot entry after another, then live")
  func snapshot() throws {
    var session = Session()
    #expect(names(session.receive(hello)) == ["hello 1"])
    let first = session.receive(.snapshot([try add("u1", 7), try .keep(uid("u2"))]))
    #expect(names(first) == ["add u1 in 7", "arm 2"])
    #expect(names(session.receive(ack)) == ["keep u2", "arm 4"])
    #expect(names(session.receive(ack)) == ["snapshot", "arm 6"])
    #expect(session.phase == .snapshot)
    #expect(names(session.receive(ack)) == ["live"])
    #expect(session.phase == .live)
  }

  @Test("an empty snapshot is just its end")
  func emptySnapshot() {
    var session = Session()
    _ = session.receive(hello)
    #expect(names(session.receive(.snapshot([]))) == ["snapshot", "arm 2"])
  }

  @Test("a refused snapshot entry is reported and the snapshot goes on")
  func refusedEntry() throws {
    var session = Session()
    _ = session.receive(hello)
    _ = session.receive(.snapshot([try add("u1")]))
    let actions = session.receive(.packet(ZDSResponse.refused("bind").encoded()))
    #expect(names(actions) == ["refused u1 bind", "snapshot", "arm 4"])
  }

  @Test("updates wait for the snapshot's end, then go one at a time")
  func serial() throws {
    var session = Session()
    _ = session.receive(hello)
    _ = session.receive(.snapshot([]))
    #expect(names(session.receive(.submit(1, try add("u1")))) == [])
    #expect(names(session.receive(.submit(2, try .delete(uid("u2"))))) == [])
    #expect(names(session.receive(ack)) == ["live", "add u1 in 1", "arm 4"])
    #expect(names(session.receive(ack)) == ["1 done", "delete u2", "arm 6"])
    #expect(names(session.receive(ack)) == ["2 done"])
  }

  @Test("a refusal is the outcome of its request, and the session goes on")
  func refusal() throws {
    var session = liveSession()
    _ = session.receive(.submit(1, try add("u1")))
    #expect(names(session.receive(.packet(ZDSResponse.refused("no").encoded()))) == ["1 ZDS_REFUSED"])
    #expect(session.phase == .live)
  }

  @Test("a late answer closes the connection, so that it cannot be taken for the next one's")
  func lateAnswer() throws {
    var session = liveSession()
    let sent = session.receive(.submit(1, try add("u1")))
    _ = session.receive(.submit(2, try add("u2")))
    guard case .armDeadline(let number) = sent.last else {
      Issue.record("no deadline")
      return
    }
    let closing = names(session.receive(.deadline(number)))
    #expect(closing == ["1 ZDS_ACK_TIMEOUT", "2 ZDS_ACK_TIMEOUT", "close ZDS_ACK_TIMEOUT"])
    #expect(names(session.receive(ack)) == [])
    #expect(names(session.receive(.submit(3, try add("u3")))) == ["3 ZDS_CLOSED_BY_PEER"])
  }

  @Test("the timer of an answered request does nothing")
  func staleTimer() throws {
    var session = liveSession()
    let sent = session.receive(.submit(1, try add("u1")))
    guard case .armDeadline(let number) = sent.last else {
      Issue.record("no deadline")
      return
    }
    _ = session.receive(ack)
    #expect(names(session.receive(.deadline(number))) == [])
    #expect(session.phase == .live)
  }

  @Test("a connection without a hello is closed in time, and a hello stops that timer")
  func helloTimeout() {
    var silent = Session()
    #expect(names(silent.receive(.deadline(Session.firstDeadline))) == ["close ZDS_HELLO_TIMEOUT"])
    var polite = Session()
    _ = polite.receive(hello)
    #expect(names(polite.receive(.deadline(Session.firstDeadline))) == [])
  }

  @Test("a packet nobody asked for closes the connection")
  func unsolicited() {
    var session = liveSession()
    #expect(names(session.receive(ack)) == ["close ZDS_UNSOLICITED"])
  }

  @Test("garbage closes the connection", arguments: [[], [0x0a], [0xff, 0xff]] as [[UInt8]])
  func garbage(bytes: [UInt8]) throws {
    var session = liveSession()
    _ = session.receive(.submit(1, try add("u1")))
    #expect(names(session.receive(.packet(bytes))).count == 2)
    #expect(session.phase == .closed)
  }

  @Test("what leaves during the snapshot is not started any more")
  func deletedDuringSnapshot() throws {
    var session = Session()
    _ = session.receive(hello)
    _ = session.receive(.snapshot([try add("u1"), try add("u2")]))
    _ = session.receive(.submit(1, try .delete(uid("u2"))))
    #expect(names(session.receive(ack)) == ["snapshot", "arm 4"])
    #expect(names(session.receive(ack)) == ["live", "delete u2", "arm 6"])
  }

  @Test("the end of the connection fails whoever waits")
  func endOfFile() throws {
    var session = liveSession()
    _ = session.receive(.submit(1, try add("u1")))
    #expect(names(session.receive(.endOfFile)) == ["1 ZDS_CLOSED_BY_PEER", "close ZDS_CLOSED_BY_PEER"])
  }

  @Test("a queue past its bound closes the connection: dropping one request would split the two sides")
  func overflow() throws {
    var session = liveSession()
    for ticket in 0...UInt64(Session.maximumQueued) { _ = session.receive(.submit(ticket, try add("u"))) }
    #expect(session.phase == .live)
    let actions = names(session.receive(.submit(9999, try add("u"))))
    #expect(actions.first == "9999 ZDS_TOO_MANY_QUEUED")
    #expect(actions.last == "close ZDS_TOO_MANY_QUEUED")
    #expect(actions.count == Session.maximumQueued + 3)
  }
}
