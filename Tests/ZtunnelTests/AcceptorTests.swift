import Glibc
import Linux
import Logging
import Metrics
import Telemetry
import Testing
import Vocabulary

@testable import TestSupport
@testable import Ztunnel

@Suite("A listener of a pod")
struct AcceptorTests {
  /// Listens on loopback, with `count` connections in the queue.
  private func listener(queueing count: Int) throws -> (PodListener, [SharedDescriptor]) {
    let socket = SharedDescriptor(try TCPSocket.make(.v4))
    try TCPSocket.bind(socket.raw, .v4, to: SocketAddress(.loopback(.v4), 0))
    try TCPSocket.listen(socket.raw, backlog: 128)
    let address = try TCPSocket.localAddress(socket.raw)
    let clients = try (0..<count).map { _ in
      let raw = try system("socket") { Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0) }
      let client = SharedDescriptor(Descriptor(owning: raw))
      try system("connect") { address.withKernelForm { connect(client.raw, $0, $1) } }
      return client
    }
    return (PodListener(role: .outbound, socket: socket, isTransparent: false), clients)
  }

  private func trouble() -> AcceptTrouble { AcceptTrouble(logger: Logger(label: "test"), pauses: Counter()) }

  @Test("that stops serves what is in its queue, unless somebody else goes on with the socket")
  func backlog() async throws {
    try await onPumpLoop { loop in
      let (listener, clients) = try listener(queueing: 100)
      let reserve = DescriptorReserve(size: 64)
      var accepted = 0
      let leaving = Acceptor(listener, loop: loop, reserve: reserve, trouble: trouble()) { _, _ in accepted += 1 }
      leaving.stop(takingBacklog: false)
      #expect(accepted == 0)
      let last = Acceptor(listener, loop: loop, reserve: reserve, trouble: trouble()) { _, _ in accepted += 1 }
      last.stop(takingBacklog: true)
      #expect(accepted == 100)
      withExtendedLifetime(clients) {}
    }
  }

  @Test("that cannot accept says so once in a while, and counts each time")
  func throttles() throws {
    let output = LogCapture()
    let pauses = Counter()
    let trouble = AcceptTrouble(logger: output.logger, pauses: pauses)
    for _ in 0..<50 { trouble.report(.hbone, SystemError("accept4", EMFILE)) }
    #expect(pauses.value == 50)
    #expect(output.lines == 1)
  }
}

/// Counts what is logged.
private final class LogCapture: @unchecked Sendable {
  // @unchecked: used by one thread of one test.
  private(set) var lines = 0

  var logger: Logger { Logger(label: "test") { _ in Handler(capture: self) } }

  private struct Handler: LogHandler {
    let capture: LogCapture
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace
    subscript(metadataKey key: String) -> Logger.MetadataValue? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }
    func log(event: LogEvent) { capture.lines += 1 }
  }
}
