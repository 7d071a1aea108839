import CLinux
import Glibc
import Linux
import TestSupport
import Testing
import Vocabulary

@testable import ZDS

/// A listening socket on a port of loopback that the kernel chose.
private func listeningSocket() throws -> (SharedDescriptor, SocketAddress) {
  let socket = SharedDescriptor(try TCPSocket.make(.v4))
  try TCPSocket.bind(socket.raw, .v4, to: SocketAddress(.loopback(.v4), 0))
  try TCPSocket.listen(socket.raw, backlog: 8)
  return (socket, try TCPSocket.localAddress(socket.raw))
}

/// What a connect says, without waiting for anybody to accept.
private func isListening(_ address: SocketAddress) throws -> Bool {
  let socket = try TCPSocket.make(.v4)
  do {
    if try TCPSocket.connect(socket.raw, .v4, to: address) { return true }
  } catch { return false }
  return TCPSocket.pendingError(socket.raw) == nil
}

/// Receives a packet, waiting a bounded time.
private func receive(_ socket: PacketSocket, on loop: EventLoop) async throws -> ([UInt8], [SharedDescriptor]) {
  for _ in 0..<2000 {
    if case .packet(let bytes, let descriptors) = try socket.receive(descriptorsAtMost: 253) {
      return (bytes, descriptors)
    }
    await loop.sleep(for: .milliseconds(5))
  }
  throw ZDSError.acknowledgementTimeout(request: "test")
}

private func inodes(_ descriptors: [SharedDescriptor]) -> [UInt64] {
  descriptors.compactMap { try? WaitingSocket($0.raw)?.inode }.sorted()
}

@Suite("Handing sockets over", .requires(.root), .serialized, .timeLimit(.minutes(1)))
struct HandoverTests {
  static let succession = ZDSHello.Succession(started: 7, isResting: false)

  @Test("the extension is a field behind what zds.md §2 says, so that others skip it")
  func bytes() throws {
    let hello = ZDSHello(succession: Self.succession).encoded()
    #expect(hello.starts(with: [UInt8](hex: "08 01 82 aa 07")))
    #expect(try ZDSHello(decoding: hello) == ZDSHello(succession: Self.succession))
    let request = try OutgoingRequest<FakeNamespace>.keep(uid("u1"))
    let packet = request.packet(with: [])
    #expect(packet.bytes == [UInt8](hex: "2a 04 0a 02 75 31 82 aa 07 00"))
    #expect(try ZDSRequest.decode(packet.bytes) == (.keep(uid("u1")), Handover()))
    #expect(ZDSResponse.acknowledged.encoded(with: 3) == [UInt8](hex: "0a 00 82 aa 07 02 08 03"))
    #expect(try ZDSRequest(decoding: ZDSRequest.duty(.rest).encoded()) == .duty(.rest))
  }

  @Test("more sockets than are ever passed are refused before any is looked for")
  func tooMany() {
    let announced = [UInt8](hex: "0a 00 82 aa 07 02 08 21")
    #expect(throws: ZDSError.unexpectedDescriptors(count: 33)) { try ZDSResponse.decode(announced) }
  }

  @Test("a ztunnel that does not know the extension gets zds.md's bytes and one descriptor, sockets or not")
  func stockZtunnel() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let (socket, _) = try listeningSocket()
    let result = try await onLoop { loop -> [String] in
      do {
        let namespace = try NetworkNamespace(path: "/proc/self/ns/net")
        let server = try SocketTests.server(path, loop)
        try server.startAccepting()
        let knowing = Recorder(loop: loop)
        knowing.handed = [socket]
        let client = SocketTests.client(path, knowing)
        loop.spawn { await client.run() }
        await knowing.wait(for: "snapshot")
        while server.liveConnections == 0 { await loop.sleep(for: .milliseconds(1)) }
        try await server.add(uid("u1"), someInfo, in: namespace)
        client.stop()
        while server.liveConnections > 0 { await loop.sleep(for: .milliseconds(1)) }

        let stock = try PacketSocket.dial(path)
        try stock.send([UInt8](hex: "08 01"))
        var lines: [String] = []
        for _ in 0..<2 {
          let (bytes, descriptors) = try await receive(stock, on: loop)
          lines.append("\(bytes) \(descriptors.count)")
          try stock.send([UInt8](hex: "0a 00"))
        }
        server.stop()
        return lines
      } catch { return ["\(error)"] }
    }
    let add = [UInt8](hex: "0a 0f 0a 02 75 31 12 09 0a 01 61 12 01 62 1a 01 63")
    #expect(result == ["\(add) 1", "\([0x1a, 0x00]) 0"])
  }

  @Test("a ztunnel that does not know the extension and passes a descriptor is disconnected")
  func stockZtunnelWithDescriptor() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let (socket, _) = try listeningSocket()
    let code = try await onLoop { loop -> String in
      do {
        var end = "none"
        let server = try SocketTests.server(path, loop) { if case .closed(_, let error) = $0 { end = error.code } }
        try server.startAccepting()
        let stock = try PacketSocket.dial(path)
        try stock.send([UInt8](hex: "08 01"))
        _ = try await receive(stock, on: loop)
        try stock.send([UInt8](hex: "0a 00"), passing: [socket])
        for _ in 0..<1000 where end == "none" { await loop.sleep(for: .milliseconds(5)) }
        return end
      } catch { return "\(error)" }
    }
    #expect(code == "ZDS_UNEXPECTED_DESCRIPTORS")
  }

  @Test("an agent that does not know the extension gets a plain acknowledgement without descriptors")
  func stockAgent() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let (socket, _) = try listeningSocket()
    let result = try await onLoop { loop -> [String] in
      do {
        let namespace = try NetworkNamespace(path: "/proc/self/ns/net")
        let listener = try PacketListener(path: path)
        let recorder = Recorder(loop: loop)
        recorder.handed = [socket]
        let client = SocketTests.client(path, recorder)
        loop.spawn { await client.run() }
        var accepted: Descriptor?
        for _ in 0..<1000 where accepted == nil {
          accepted = try listener.accept()
          await loop.sleep(for: .milliseconds(5))
        }
        guard let taken = accepted.take() else { return ["no connection"] }
        let agent = try PacketSocket(adopting: taken)
        var lines: [String] = []
        let (hello, _) = try await receive(agent, on: loop)
        lines.append("\(Array(hello.prefix(2)))")
        for (request, passed) in [
          ([UInt8](hex: "0a 0f 0a 02 75 31 12 09 0a 01 61 12 01 62 1a 01 63"), [namespace.descriptor]),
          ([UInt8](hex: "1a 00"), []),
        ] {
          try agent.send(request, passing: passed)
          let (bytes, descriptors) = try await receive(agent, on: loop)
          lines.append("\(bytes) \(descriptors.count)")
        }
        client.stop()
        return lines + (recorder.lines.contains("handed over u1") ? ["handed over"] : [])
      } catch { return ["\(error)"] }
    }
    #expect(result == ["[8, 1]", "[10, 0] 0", "[10, 0] 0"])
  }

  @Test("the agent keeps the sockets of a ztunnel that is gone, gives them to the next, and lets go with the pod")
  func wholeLife() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let (first, firstAddress) = try listeningSocket()
    let (second, secondAddress) = try listeningSocket()
    let original = inodes([first, second])
    nonisolated(unsafe) var handed: [SharedDescriptor]? = [first, second]
    let result = try await onLoop { loop -> [String] in
      do {
        let namespace = try NetworkNamespace(path: "/proc/self/ns/net")
        let server = try SocketTests.server(path, loop)
        try server.startAccepting()
        var lines: [String] = []
        do {
          let older = Recorder(loop: loop)
          older.handed = handed ?? []
          handed = nil
          let client = SocketTests.client(path, older)
          loop.spawn { await client.run() }
          await older.wait(for: "snapshot")
          while server.liveConnections == 0 { await loop.sleep(for: .milliseconds(1)) }
          try await server.add(uid("u1"), someInfo, in: namespace)
          client.stop()
          older.handed = []
          while server.liveConnections > 0 { await loop.sleep(for: .milliseconds(1)) }
        }
        let newer = Recorder(loop: loop)
        let client = SocketTests.client(path, newer)
        loop.spawn { await client.run() }
        await newer.wait(for: "add u1")
        lines.append("\(inodes(newer.adopted) == original)")
        newer.adopted = []
        await newer.wait(for: "snapshot")
        await server.delete(uid("u1"))
        client.stop()
        server.stop()
        return lines
      } catch { return ["\(error)"] }
    }
    #expect(result == ["true"])
    withExtendedLifetime((first, second)) {}
    #expect(try isListening(firstAddress), "the test's own copies")
    #expect(try isListening(secondAddress))
  }

  @Test("the agent lets go of mailboxes that no ztunnel comes for, and keeps what listens", arguments: [true, false])
  func abandonedMailbox(isPatient: Bool) async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let (listener, _) = try listeningSocket()
    let mailbox = try Mailbox().descriptor
    let names = [listener, mailbox].map { (try? WaitingSocket($0.raw))?.inode ?? 0 }
    let result = try await onLoop { loop -> [String] in
      do {
        let namespace = try NetworkNamespace(path: "/proc/self/ns/net")
        var events: [String] = []
        let server = try SocketTests.server(
          path, loop, mailboxPatience: isPatient ? .seconds(300) : .milliseconds(20)
        ) { events.append("\($0)") }
        try server.startAccepting()
        let older = Recorder(loop: loop)
        older.handed = [mailbox, listener]
        let client = SocketTests.client(path, older)
        loop.spawn { await client.run() }
        await older.wait(for: "snapshot")
        while server.liveConnections == 0 { await loop.sleep(for: .milliseconds(1)) }
        try await server.add(uid("u1"), someInfo, in: namespace)
        await loop.sleep(for: .milliseconds(60))
        client.stop()
        while server.liveConnections > 0 { await loop.sleep(for: .milliseconds(1)) }
        await loop.sleep(for: .milliseconds(100))
        let newer = Recorder(loop: loop)
        let next = SocketTests.client(path, newer)
        loop.spawn { await next.run() }
        await newer.wait(for: "add u1")
        next.stop()
        server.stop()
        return newer.adopted.compactMap { (try? WaitingSocket($0.raw))?.inode }
          .map { $0 == names[0] ? "listener" : "mailbox" }.sorted()
          + events.filter { $0.contains("mailboxes") }
      } catch { return ["\(error)"] }
    }
    #expect(
      result
        == (isPatient
          ? ["listener", "mailbox"]
          : [
            "listener",
            "no ztunnel came within 0.02 seconds: what one has left of plain connections is reset (mailboxes: 1)",
          ]))
  }

  @Test("what the agent keeps is closed when the pod leaves: nothing is left that listens")
  func nothingLeft() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    nonisolated(unsafe) var made: (SharedDescriptor, SocketAddress)? = try listeningSocket()
    let address = try #require(made?.1)
    let states = try await onLoop { loop -> [String] in
      do {
        let namespace = try NetworkNamespace(path: "/proc/self/ns/net")
        let server = try SocketTests.server(path, loop)
        try server.startAccepting()
        let recorder = Recorder(loop: loop)
        if let socket = made?.0 { recorder.handed = [socket] }
        made = nil
        let client = SocketTests.client(path, recorder)
        loop.spawn { await client.run() }
        await recorder.wait(for: "snapshot")
        while server.liveConnections == 0 { await loop.sleep(for: .milliseconds(1)) }
        // Again and again: copies must not pile up.
        for _ in 0..<50 { try await server.add(uid("u1"), someInfo, in: namespace) }
        recorder.handed = []
        recorder.adopted = []
        let kept = try isListening(address)
        await server.delete(uid("u1"))
        // A child that another test is just starting has copies of everything until it becomes its program.
        var left = true
        for _ in 0..<1000 where left {
          left = try isListening(address)
          await loop.sleep(for: .milliseconds(5))
        }
        client.stop()
        server.stop()
        return ["\(kept)", "\(left)"]
      } catch { return ["\(error)"] }
    }
    #expect(states == ["true", "false"])
  }

  @Test("a descriptor that is no socket of the pod's namespace is not kept")
  func foreignDescriptor() throws {
    let event = SharedDescriptor(Descriptor(owning: eventfd(0, CInt(EFD_CLOEXEC))))
    let (socket, _) = try listeningSocket()
    let home = try NetworkNamespace(path: "/proc/self/ns/net").identity
    var kept = KeptSockets()
    let answers = [
      kept.keep(event, in: home, hasRoom: true),
      kept.keep(socket, in: NamespaceIdentity(device: 1, inode: 1), hasRoom: true),
      kept.keep(socket, in: home, hasRoom: false), kept.keep(socket, in: home, hasRoom: true),
      kept.keep(socket, in: home, hasRoom: true),
    ]
    #expect(answers == [false, false, false, true, true])
    #expect(kept.count == 1)
    kept.keepOnly(NamespaceIdentity(device: 1, inode: 1))
    #expect(kept.count == 0)
  }

  @Test("of two ztunnels the later one serves; when it is gone the other one learns what it missed, and serves again")
  func succession() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let lines = try await onLoop { loop -> [String] in
      let older = Recorder(loop: loop)
      let newer = Recorder(loop: loop)
      do {
        let namespace = try NetworkNamespace(path: "/proc/self/ns/net")
        let server = try SocketTests.server(path, loop)
        try server.startAccepting()
        let clients = [SocketTests.client(path, older), SocketTests.client(path, newer)]
        loop.spawn { await clients[0].run() }
        await older.wait(for: "snapshot")
        loop.spawn { await clients[1].run() }
        await newer.wait(for: "snapshot")
        await older.wait(for: "rest")
        try await server.add(uid("u1"), someInfo, in: namespace)
        clients[1].stop()
        await older.wait(for: "accept")
        clients[0].stop()
        server.stop()
      } catch { return ["\(error)"] }
      return older.lines.filter { !$0.hasPrefix("disconnected") }
        + newer.lines.filter { !$0.hasPrefix("disconnected") }
    }
    #expect(
      lines == [
        "connected", "snapshot", "rest", "add u1", "accept",
        "connected", "snapshot", "add u1",
      ])
  }

  @Test("nobody rests on account of a ztunnel that could not start a pod, until it has")
  func incompleteSuccessor() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let (socket, _) = try listeningSocket()
    let lines = try await onLoop { loop -> [String] in
      let older = Recorder(loop: loop)
      let newer = Recorder(loop: loop)
      older.handed = [socket]
      newer.handed = [socket]
      do {
        let namespace = try NetworkNamespace(path: "/proc/self/ns/net")
        let server = try SocketTests.server(path, loop)
        try server.startAccepting()
        let clients = [SocketTests.client(path, older), SocketTests.client(path, newer)]
        loop.spawn { await clients[0].run() }
        await older.wait(for: "snapshot")
        while server.liveConnections == 0 { await loop.sleep(for: .milliseconds(1)) }
        try await server.add(uid("u1"), someInfo, in: namespace)
        newer.answers = [.refuse("the port is taken")]
        loop.spawn { await clients[1].run() }
        await newer.wait(for: "snapshot")
        while server.liveConnections < 2 { await loop.sleep(for: .milliseconds(1)) }
        let before = older.lines.contains("rest")
        try await server.add(uid("u1"), someInfo, in: namespace)
        await older.wait(for: "rest")
        for client in clients { client.stop() }
        server.stop()
        return ["\(before)", "\(older.lines.contains("rest"))"]
      } catch { return ["\(error)"] }
    }
    #expect(lines == ["false", "true"])
  }
}
