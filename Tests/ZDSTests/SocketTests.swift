import Glibc
import Linux
import Testing

@testable import ZDS

/// A directory that goes away with the test.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    var template = Array("/tmp/ambient-zds-XXXXXX".utf8CString)
    guard let made = mkdtemp(&template) else { throw SystemError("mkdtemp", errno) }
    path = String(cString: made)
  }

  func socket(_ name: String = "ztunnel.sock") throws -> UnixSocketPath { try UnixSocketPath("\(path)/\(name)") }

  deinit {
    unlink("\(path)/ztunnel.sock")
    unlink("\(path)/deep/er/ztunnel.sock")
    rmdir("\(path)/deep/er")
    rmdir("\(path)/deep")
    rmdir(path)
  }
}

/// Runs `body` as a task of a loop that ends with the test.
func onLoop<Result: Sendable>(_ body: @escaping @Sendable (EventLoop) async -> Result) async throws -> Result {
  let loop = try EventLoop(name: "zds-test")
  try loop.start()
  defer {
    loop.stop()
    loop.join()
  }
  return await withCheckedContinuation { continuation in
    loop.spawn { continuation.resume(returning: await body(loop)) }
  }
}

/// Ztunnel reduced to what it was told. All on one loop.
final class Recorder: ZDSClientHandler {
  var lines: [String] = []
  var answers: [InstructionAnswer] = []
  /// While set, instructions are not answered.
  var stuck = false
  /// What is passed with each acknowledged add.
  var handed: [SharedDescriptor] = []
  /// Whose certificates it has.
  var identities: [WorkloadUID: Bool] = [:]
  /// What came with adds.
  var adopted: [SharedDescriptor] = []
  let loop: EventLoop

  init(loop: EventLoop) { self.loop = loop }

  func connected() { lines.append("connected") }
  func disconnected(_ error: ZDSError) { lines.append("disconnected \(error.code)") }
  func dialFailed(_ error: ZDSError, retryIn delay: Duration) { lines.append("dial \(error.code)") }
  func sockets(of uid: WorkloadUID) -> [SharedDescriptor] { handed }
  func holdsIdentity(of uid: WorkloadUID) -> Bool? {
    lines.append("identity \(uid)")
    return identities[uid]
  }
  func handedOver(_ uid: WorkloadUID) { lines.append("handed over \(uid)") }
  func take(_ duty: Handover.Duty) async { lines.append("\(duty)") }
  func follow(
    _ instruction: WorkloadInstruction<NetworkNamespace>, with sockets: [SharedDescriptor]
  ) async -> InstructionAnswer {
    adopted += sockets
    if !sockets.isEmpty { lines.append("\(sockets.count) sockets") }
    switch instruction {
    case .add(let uid, _, let namespace):
      let home = (try? NetworkNamespace(path: "/proc/self/ns/net"))?.identity
      lines.append("add \(uid)\(namespace.identity == home ? "" : " in a wrong namespace")")
    case .addWithoutNamespace(let uid, _): lines.append("bad add \(uid)")
    case .keep(let uid): lines.append("keep \(uid)")
    case .delete(let uid): lines.append("delete \(uid)")
    case .snapshotSent: lines.append("snapshot")
    }
    while stuck { await loop.sleep(for: .milliseconds(5)) }
    return answers.isEmpty ? .acknowledge : answers.removeFirst()
  }

  /// Waits, but not for ever.
  func wait(for line: String) async {
    for _ in 0..<1000 where !lines.contains(line) { await loop.sleep(for: .milliseconds(5)) }
  }
}

@Suite("ZDS over a socket")
struct SocketTests {
  static func server(
    _ path: UnixSocketPath, _ loop: EventLoop, answer: Duration = .seconds(5), users: Set<UInt32> = [getuid()],
    mailboxPatience: Duration = .seconds(300), events: @escaping (ZDSServerEvent) -> Void = { _ in }
  ) throws(ZDSError) -> ZDSServer {
    var limits = ZDSServer.Limits()
    limits.answer = answer
    limits.acceptPause = .milliseconds(1)
    limits.mailboxPatience = mailboxPatience
    return try ZDSServer(path: path, allowedUsers: users, limits: limits, on: loop, observer: events)
  }

  static func client(_ path: UnixSocketPath, _ recorder: Recorder) -> ZDSClient {
    let backOff = DialBackOff(first: .milliseconds(2), longest: .milliseconds(20))
    return ZDSClient(path: path, backOff: backOff, on: recorder.loop, handler: recorder)
  }

  @Test("hello, snapshot, live adds and deletes, in order, with the namespace's descriptor")
  func wholeSession() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let lines = try await onLoop { loop in
      let recorder = Recorder(loop: loop)
      do {
        let namespace = try NetworkNamespace(path: "/proc/self/ns/net")
        let server = try Self.server(path, loop)
        do throws(ZDSError) { try await server.add(uid("u1"), someInfo, in: namespace) } catch {
          recorder.lines.append(error.code)
        }
        try server.keep(uid("u2"), someInfo)
        let client = Self.client(path, recorder)
        loop.spawn { await client.run() }
        try server.startAccepting()
        await recorder.wait(for: "snapshot")
        while server.liveConnections == 0 { await loop.sleep(for: .milliseconds(1)) }
        try await server.add(uid("u3"), someInfo, in: namespace)
        await server.delete(uid("u1"))
        recorder.answers = [.refuse("bind")]
        do throws(ZDSError) { try await server.add(uid("u4"), someInfo, in: namespace) } catch {
          recorder.lines.append(error.code)
        }
        client.stop()
        server.stop()
      } catch { recorder.lines.append("\(error)") }
      return recorder.lines
    }
    #expect(
      lines == [
        "ZDS_NOT_CONNECTED", "connected", "add u1", "keep u2", "snapshot", "add u3", "delete u1", "add u4",
        "ZDS_REFUSED",
      ])
  }

  @Test("a client that dials before there is a server, and after one has gone, gets there")
  func reconnects() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let lines = try await onLoop { loop in
      let recorder = Recorder(loop: loop)
      let client = Self.client(path, recorder)
      loop.spawn { await client.run() }
      do {
        await recorder.wait(for: "dial ENOENT")
        let first = try Self.server(path, loop)
        try first.startAccepting()
        await recorder.wait(for: "snapshot")
        first.stop()
        await recorder.wait(for: "disconnected ZDS_CLOSED_BY_PEER")
        recorder.lines.removeAll { $0 != "disconnected ZDS_CLOSED_BY_PEER" }
        let second = try Self.server(path, loop)
        try second.keep(uid("u1"), someInfo)
        try second.startAccepting()
        await recorder.wait(for: "snapshot")
        client.stop()
        second.stop()
      } catch { recorder.lines.append("\(error)") }
      return recorder.lines.filter { !$0.hasPrefix("dial") }
    }
    #expect(lines.first == "disconnected ZDS_CLOSED_BY_PEER")
    #expect(lines.suffix(3) == ["connected", "keep u1", "snapshot"])
  }

  @Test("a ztunnel that does not answer in time is disconnected, and learns it all anew")
  func lateAnswer() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let result = try await onLoop { loop in
      let recorder = Recorder(loop: loop)
      do {
        let namespace = try NetworkNamespace(path: "/proc/self/ns/net")
        let server = try Self.server(path, loop, answer: .milliseconds(100))
        try server.startAccepting()
        let client = Self.client(path, recorder)
        loop.spawn { await client.run() }
        while server.liveConnections == 0 { await loop.sleep(for: .milliseconds(1)) }
        recorder.stuck = true
        var code = "done"
        do throws(ZDSError) { try await server.add(uid("u1"), someInfo, in: namespace) } catch { code = error.code }
        recorder.lines = [code]
        recorder.stuck = false
        await recorder.wait(for: "snapshot")
        client.stop()
        server.stop()
      } catch { recorder.lines.append("\(error)") }
      return recorder.lines.filter { !$0.hasPrefix("disconnected") }
    }
    #expect(result == ["ZDS_ACK_TIMEOUT", "connected", "add u1", "snapshot"])
  }

  @Test("a peer of another user is refused before it says anything")
  func peerCredentials() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let lines = try await onLoop { loop in
      let recorder = Recorder(loop: loop)
      do {
        let server = try Self.server(path, loop, users: [getuid() + 1]) { recorder.lines.append("\($0)") }
        try server.startAccepting()
        let client = Self.client(path, recorder)
        loop.spawn { await client.run() }
        await recorder.wait(for: "refused a connection of pid \(getpid()): user \(getuid()) is not allowed")
        client.stop()
        server.stop()
      } catch { recorder.lines.append("\(error)") }
      return recorder.lines
    }
    #expect(lines.contains { $0.hasPrefix("refused a connection of pid \(getpid())") })
    #expect(!lines.contains("snapshot"))
  }

  @Test("a connection that says nothing is closed in time")
  func silentPeer() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    let lines = try await onLoop { loop in
      let recorder = Recorder(loop: loop)
      do {
        let server = try Self.server(path, loop, answer: .milliseconds(20)) {
          if case .closed(_, let error) = $0 { recorder.lines.append(error.code) }
        }
        try server.startAccepting()
        let silent = try PacketSocket.dial(path)
        await recorder.wait(for: "ZDS_HELLO_TIMEOUT")
        server.stop()
        withExtendedLifetime(silent) {}
      } catch { recorder.lines.append("\(error)") }
      return recorder.lines
    }
    #expect(lines == ["ZDS_HELLO_TIMEOUT"])
  }

  @Test("the socket file has mode 0600 whatever the umask, and a stale one is replaced")
  func socketFile() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket("deep/er/ztunnel.sock")
    let modes = try await onLoop { loop in
      var modes: [String] = []
      for _ in 0..<2 {
        do { try Self.server(path, loop).stop() } catch { modes.append("\(error)") }
        var status = stat()
        _ = lstat(path.text, &status)
        modes.append(String(status.st_mode & 0o777, radix: 8))
      }
      return modes
    }
    #expect(modes == ["600", "600"])
  }

  @Test("a file that is no socket is not taken away")
  func foreignFile() async throws {
    let directory = try TemporaryDirectory()
    let path = try directory.socket()
    _ = try Descriptor.open(path.text, O_WRONLY | O_CREAT)
    let code = try await onLoop { loop in
      do throws(ZDSError) { _ = try Self.server(path, loop) } catch { return error.code }
      return "bound"
    }
    #expect(code == "ZDS_PATH_NOT_A_SOCKET")
  }

  @Test("a path must fit a socket address", arguments: ["", String(repeating: "x", count: 108), "/tmp/\u{0}x"])
  func paths(text: String) {
    #expect(throws: ZDSError.self) { try UnixSocketPath(text) }
  }

  @Test("the back-off doubles, stays within its jitter and its limit, and starts over")
  func backOff() {
    var random = SeededGenerator(seed: 7)
    var backOff = DialBackOff()
    var planned = 0.010
    for _ in 0..<20 {
      let delay = backOff.delay(using: &random) / .seconds(1)
      #expect(delay >= min(planned, 15) * 0.8 - 1e-9 && delay <= min(planned * 1.2, 15) + 1e-9)
      planned = min(planned * 2, 15)
    }
    backOff.reset()
    #expect(backOff.delay(using: &random) <= .milliseconds(12))
  }
}
