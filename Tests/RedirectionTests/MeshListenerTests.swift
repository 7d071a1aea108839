import Linux
import Testing
import Vocabulary

@testable import Redirection

private let proxyMark: UInt32 = 0x539

@Suite("Listeners of ztunnel", .namespaces)
struct MeshListenerTests {
  @Test("are those with its mark, in both families")
  func marked() throws {
    let pod = try TestNamespace()
    let settings = RedirectionSettings()
    #expect(try pod.redirector.prove(settings, in: pod.namespace).missingListeners == [15001, 15006, 15008])
    let impostor = try TestSocket.listening(in: pod, on: SocketAddress(.any(.v4), 15001))
    let first = try TestSocket.listening(in: pod, on: SocketAddress(.any(.v4), 15006), mark: proxyMark)
    let second = try TestSocket.listening(in: pod, on: SocketAddress(.any(.v6), 15008), mark: proxyMark)
    #expect(try pod.redirector.prove(settings, in: pod.namespace).missingListeners == [15001])
    _ = (impostor, first, second)
  }

  @Test(
    "cannot be read from an answer that is not whole",
    arguments: [[], Array(repeating: 0, count: 71), Array(repeating: 0, count: 72) + [3, 0, 15, 0]] as [[UInt8]])
  func malformed(payload: [UInt8]) {
    #expect(throws: RedirectionError.self) {
      try MeshListeners.port(NetlinkMessage(kind: 20, flags: 0, sequence: 1, payload: payload))
    }
  }
}
