import Linux
import TestSupport
import Testing

@testable import ZDS

@Suite("Asking ztunnel for identities", .timeLimit(.minutes(1)))
struct IdentityQuestionTests {
  @Test("question and answer are in the extension's field, and nothing else changes")
  func bytes() throws {
    let question = try ZDSRequest.identity(uid("u1")).encoded()
    #expect(question == [UInt8](hex: "82 aa 07 04 2a 02 75 31"))
    #expect(try ZDSRequest(decoding: question) == .identity(uid("u1")))
    for (held, bytes) in [(true, "0a 00 82 aa 07 02 20 02"), (false, "0a 00 82 aa 07 02 20 01"), (nil, "0a 00")]
      as [(Bool?, String)]
    {
      let answer = ZDSResponse.acknowledged.encoded(identity: held)
      #expect(answer == [UInt8](hex: bytes))
      #expect(ZDSResponse.identity(in: answer) == held)
      #expect(try ZDSResponse(decoding: answer) == .acknowledged)
    }
    let succession = ZDSHello.Succession(started: 7, isResting: true, tellsIdentities: true)
    #expect(try ZDSHello(decoding: ZDSHello(succession: succession).encoded()).succession == succession)
  }

  @Test("the ztunnel that serves is asked, between other requests, and says what it has")
  func asked() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let result = try await onLoop { loop -> [Bool?] in
      do {
        let namespace = try NetworkNamespace(path: "/proc/self/ns/net")
        let server = try SocketTests.server(path, loop)
        try server.startAccepting()
        let recorder = Recorder(loop: loop)
        recorder.identities = [uid("held"): true, uid("missing"): false]
        let client = SocketTests.client(path, recorder)
        loop.spawn { await client.run() }
        while server.liveConnections == 0 { await loop.sleep(for: .milliseconds(1)) }
        try await server.add(uid("held"), someInfo, in: namespace)
        var answers: [Bool?] = []
        for name in ["held", "missing", "strange"] { answers.append(await server.identity(of: uid(name))) }
        try await server.add(uid("missing"), someInfo, in: namespace)
        client.stop()
        while server.liveConnections > 0 { await loop.sleep(for: .milliseconds(1)) }
        answers.append(await server.identity(of: uid("held")))
        server.stop()
        return answers
      } catch { return [] }
    }
    #expect(result == [true, false, nil, nil])
  }

  @Test("a ztunnel that goes while it is asked has not said anything")
  func goes() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let result = try await onLoop { loop -> [Bool?] in
      do {
        let server = try SocketTests.server(path, loop)
        try server.startAccepting()
        let socket = try PacketSocket.dial(path)
        let succession = ZDSHello.Succession(started: 1, isResting: false, tellsIdentities: true)
        try socket.send(ZDSHello(succession: succession).encoded())
        while case .nothing = try socket.receive(descriptorsAtMost: 1) { await loop.sleep(for: .milliseconds(1)) }
        try socket.send(ZDSResponse.acknowledged.encoded())
        while server.liveConnections == 0 { await loop.sleep(for: .milliseconds(1)) }
        _ = loop.schedule(after: .milliseconds(20)) { socket.shutDown() }
        let answer = await server.identity(of: uid("u1"))
        server.stop()
        return [answer]
      } catch { return [] }
    }
    #expect(result == [nil])
  }

  @Test("a ztunnel that does not tell is never asked")
  func stock() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    for hello in [ZDSHello(), ZDSHello(succession: .init(started: 1, isResting: false))] {
      let quiet = try await onLoop { loop -> Bool in
        do {
          let server = try SocketTests.server(path, loop)
          try server.startAccepting()
          let socket = try PacketSocket.dial(path)
          try socket.send(hello.encoded())
          while case .nothing = try socket.receive(descriptorsAtMost: 1) { await loop.sleep(for: .milliseconds(1)) }
          try socket.send(ZDSResponse.acknowledged.encoded())
          while server.liveConnections == 0 { await loop.sleep(for: .milliseconds(1)) }
          guard await server.identity(of: uid("u1")) == nil else { return false }
          await loop.sleep(for: .milliseconds(50))
          var isQuiet = false
          if case .nothing = try socket.receive(descriptorsAtMost: 1) { isQuiet = true }
          server.stop()
          return isQuiet
        } catch { return false }
      }
      #expect(quiet)
    }
  }
}
