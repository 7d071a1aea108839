import Glibc
import Linux
import TestSupport
import Testing
import Vocabulary

@testable import Ztunnel

@Suite("A connection between two processes", .requires(.root))
struct MovedConnectionTests {
  private static let here = NetworkNamespace.home.identity

  private static func moved(_ left: PumpLeaving) -> MovedConnection {
    func peer(_ socket: SharedDescriptor) -> SocketAddress {
      TCPSocket.peerAddress(socket.raw) ?? SocketAddress(.any(.v4), 0)
    }
    return MovedConnection(
      facts: MovedConnection.Facts(
        direction: .inbound, peer: peer(left.client), original: nil, actual: peer(left.upstream), startedAt: 3,
        attempts: 1),
      left: left)
  }

  /// One that has been put into a mailbox, as who takes it out sees it.
  private static func taken(_ left: PumpLeaving, through mailbox: Mailbox) throws -> PumpLeaving {
    try moved(left).put(into: mailbox)
    let message = try #require(try mailbox.take())
    return try MovedConnection(message, in: here).left
  }

  @Test("loses nothing of what is on its way, however often it moves, and keeps its count")
  func bulk() async throws {
    let count = 48 << 20
    try await onPumpLoop { loop in
      let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 64)
      defer { scratch.deallocate() }
      let mailbox = try Mailbox()
      let (near, far) = (try Application.connected(), try Application.connected())
      let (client, upstream) = (near.application, far.application)
      var left = PumpLeaving(client: near.pumped, upstream: far.pumped, position: PumpPosition())
      var (moves, waiting) = (0, 0)
      var isDone = false
      let end = ContinuousClock.now + .seconds(60)
      while !isDone, ContinuousClock.now < end {
        let pump = SocketPump(
          client: left.client, upstream: left.upstream, loop: loop, scratch: scratch, at: left.position)
        pump.start { _ in Issue.record("it has ended by itself") }
        for _ in 0..<20 {
          client.sendPattern(upTo: count)
          upstream.sendPattern(upTo: count)
          await loop.sleep(for: .microseconds(100))
        }
        left = try Self.taken(try #require(pump.leave()), through: mailbox)
        #expect(pump.leave() == nil, "only once")
        moves += 1
        if !left.position.up.pending.isEmpty || !left.position.down.pending.isEmpty { waiting += 1 }
        // Nobody reads at first, so that all buffers fill and bytes are on their way when it leaves.
        guard moves > 20 else { continue }
        client.receive()
        upstream.receive()
        isDone = client.received.count == count && upstream.received.count == count
      }
      #expect(isDone)
      #expect(BytePattern.matches(client.received, at: 0))
      #expect(BytePattern.matches(upstream.received, at: 0))
      #expect(left.position.outcome == PumpOutcome(fromClient: UInt64(count), toClient: UInt64(count)))
      #expect(moves > 20 && waiting > 0, "\(moves) moves, \(waiting) with bytes on their way")
    }
  }

  @Test("keeps the ends that were passed on, and passes on those that were not", arguments: [true, false])
  func ends(readsFirst: Bool) async throws {
    try await onPumpLoop { loop in
      let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 64)
      defer { scratch.deallocate() }
      let mailbox = try Mailbox()
      let (near, far) = (try Application.connected(), try Application.connected())
      let (client, upstream) = (near.application, far.application)
      let first = SocketPump(client: near.pumped, upstream: far.pumped, loop: loop, scratch: scratch)
      first.start { _ in Issue.record("it has ended by itself") }
      client.send("question".utf8)
      if readsFirst {
        client.finish()
        #expect(
          await loop.eventually {
            upstream.receive(); return upstream.hasEnded
          })
      }
      let left = try Self.taken(try #require(first.leave()), through: mailbox)
      if !readsFirst { client.finish() }
      let box = OutcomeBox()
      let second = SocketPump(
        client: left.client, upstream: left.upstream, loop: loop, scratch: scratch, at: left.position)
      box.watch(second)
      #expect(
        await loop.eventually {
          upstream.receive(); return upstream.hasEnded
        })
      #expect(upstream.text == "question")
      upstream.send("answer".utf8)
      upstream.finish()
      #expect(await loop.eventually { box.outcome != nil })
      #expect(box.outcome == PumpOutcome(fromClient: 8, toClient: 6))
      client.receive()
      #expect(client.text == "answer")
    }
  }

  @Test("is reset for both sides when nobody takes it")
  func abandoned() async throws {
    try await onPumpLoop { loop in
      var mailbox: Mailbox? = try Mailbox()
      let sides = try [Application.connected(), Application.connected()].withPumped { client, upstream in
        try Self.moved(PumpLeaving(client: client, upstream: upstream, position: PumpPosition()))
          .put(into: try #require(mailbox))
      }
      await loop.sleep(for: .milliseconds(20))
      for side in sides {
        side.receive()
        #expect(side.error == nil, "it may still be taken")
      }
      mailbox = nil
      for side in sides {
        #expect(
          await loop.eventually {
            side.receive(); return side.error == ECONNRESET
          })
      }
    }
  }

  @Test("is written and read again whole")
  func text() throws {
    let (near, far) = (try Application.connected(), try Application.connected())
    var position = PumpPosition()
    position.up.moved = 1 << 40
    position.up.pending = [1, 2, 3]
    position.down.hasEnded = true
    position.down.isFinished = true
    var moved = Self.moved(PumpLeaving(client: near.pumped, upstream: far.pumped, position: position))
    moved.facts.direction = .outbound
    moved.facts.original = SocketAddress("10.96.0.1:80")
    let text = MovedConnectionText(moved)
    let mailbox = try Mailbox()
    try moved.put(into: mailbox)
    let taken = try MovedConnection(try #require(try mailbox.take()), in: Self.here)
    #expect(taken.left.position == position)
    #expect(MovedConnectionText(taken) == text)
    moved.facts.peer = try #require(SocketAddress("[fd00::1]:40000"))
    let other = MovedConnectionText(moved)
    #expect(try MovedConnectionText(other.bytes) == other)
  }

  private static let good = """
    {"version":1,"direction":"inbound","peer":"10.0.0.1:5","original":null,"actual":"10.0.0.2:80","startedAt":1,\
    "attempts":1,"up":{"moved":0,"pending":0,"hasEnded":false,"isFinished":false},\
    "down":{"moved":0,"pending":0,"hasEnded":false,"isFinished":false}}
    """

  @Test(
    "is refused when it cannot be understood",
    arguments: [
      ("", ""), ("{", "["), ("\"version\":1", "\"version\":2"), ("inbound", "sideways"), ("10.0.0.1:5", "10.0.0.1"),
      ("10.0.0.2:80", ""), ("null", "\"there\""), ("\"startedAt\":1", "\"startedAt\":-1"),
      ("\"attempts\":1", "\"attempts\":256"), ("\"moved\":0", "\"moved\":-1"),
      ("\"pending\":0", "\"pending\":1048577"), ("\"hasEnded\":false,", ""),
      ("\"isFinished\":false", "\"isFinished\":true"), ("\"up\"", "\"away\""),
    ])
  func hostileText(part: String, replacement: String) {
    let text = part.isEmpty ? "" : Self.good.replacing(part, with: replacement, maxReplacements: 1)
    #expect(text != Self.good)
    #expect(throws: MovedConnectionError.self) { try MovedConnectionText(Array(text.utf8)) }
  }

  @Test("is refused when its descriptors are not those of a connection of the pod")
  func hostileDescriptors() throws {
    #expect(throws: Never.self) { try MovedConnectionText(Array(Self.good.utf8)) }
    let connection = try Application.connected()
    let socket = connection.pumped
    let file = SharedDescriptor(try Descriptor.open("/dev/null", O_RDONLY))
    let datagrams = SharedDescriptor(try UDPSocket.make(.v4))
    let peer = try #require(TCPSocket.peerAddress(socket.raw))
    let good = Self.good.replacing("10.0.0.1:5", with: "\(peer)").replacing("10.0.0.2:80", with: "\(peer)")
    let pending = good.replacing("\"pending\":0", with: "\"pending\":7", maxReplacements: 1)
    func refusal(_ text: String, _ descriptors: [SharedDescriptor], in place: NamespaceIdentity = Self.here) -> String?
    {
      do throws(MovedConnectionError) {
        _ = try MovedConnection(.init(bytes: Array(text.utf8), descriptors: descriptors), in: place)
        return nil
      } catch { return error.code }
    }
    #expect(refusal(good, [socket, socket]) == nil)
    #expect(refusal(Self.good, [socket, socket]) == "MOVED_CONNECTION_MALFORMED", "it leads elsewhere")
    #expect(refusal(good, []) == "MOVED_CONNECTION_MALFORMED")
    #expect(refusal(good, [socket, socket, file]) == "MOVED_CONNECTION_MALFORMED")
    #expect(refusal(pending, [socket, socket]) == "MOVED_CONNECTION_MALFORMED")
    #expect(refusal(pending, [socket, socket, file]) == "MOVED_CONNECTION_MALFORMED", "no byte is in it")
    #expect(refusal(good, [socket, datagrams]) == "MOVED_CONNECTION_MALFORMED")
    #expect(refusal(good, [socket, file]) == "ERRNO_88")
    #expect(
      refusal(good, [socket, socket], in: NamespaceIdentity(device: 1, inode: 1)) == "MOVED_CONNECTION_FOREIGN")
    withExtendedLifetime(connection) {}
  }
}

extension [(pumped: SharedDescriptor, application: Application)] {
  /// Gives two pumped sockets to `body`, lets go of them, and returns the applications.
  fileprivate consuming func withPumped(
    _ body: (SharedDescriptor, SharedDescriptor) throws -> Void
  ) rethrows -> [Application] {
    try body(self[0].pumped, self[1].pumped)
    return map(\.application)
  }
}
