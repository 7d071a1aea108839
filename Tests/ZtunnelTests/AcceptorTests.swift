import Glibc
import Logging
import Metrics
import Telemetry
import Testing
import Vocabulary

@testable import Linux
@testable import TestSupport
@testable import Ztunnel

@Suite("A listener of a pod")
struct AcceptorTests {
  /// Listens on loopback, with `count` connections in the queue.
  private func listener(_ role: ListenerRole = .outbound, queueing count: Int) throws -> (
    PodListener, [SharedDescriptor]
  ) {
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
    return (PodListener(role: role, socket: socket, isTransparent: false), clients)
  }

  private func trouble() -> AcceptTrouble {
    AcceptTrouble(logger: Logger(label: "test"), pauses: Counter(), turnedAway: Counter())
  }

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

  /// A reserve that nothing can fill until `isOver`.
  private final class Shortage {
    var isOver = false
    private(set) lazy var reserve = DescriptorReserve(size: 4) { [unowned self] in
      isOver ? try? Descriptor.open("/dev/null", O_RDONLY) : nil
    }
  }

  /// Whether the other side has closed.
  private func isClosed(_ client: SharedDescriptor) -> Bool {
    var byte: UInt8 = 0
    return recv(client.raw, &byte, 1, CInt(MSG_DONTWAIT)) == 0 || errno != EAGAIN
  }

  @Test("turns tunnels away while no descriptors are left, and serves as soon as there are")
  func turnsAway() async throws {
    try await onPumpLoop { loop in
      let (listener, clients) = try listener(.hbone, queueing: 40)
      let (output, turnedAway, shortage) = (LogCapture(), Counter(), Shortage())
      let trouble = AcceptTrouble(logger: output.logger, pauses: Counter(), turnedAway: turnedAway)
      var accepted = 0
      let acceptor = Acceptor(listener, loop: loop, reserve: shortage.reserve, trouble: trouble) { _, _ in accepted += 1
      }
      try acceptor.start()
      #expect(await loop.eventually { turnedAway.value == 40 })
      #expect(accepted == 0 && clients.allSatisfy(isClosed))
      shortage.isOver = true
      let address = try TCPSocket.localAddress(listener.socket.raw)
      let late = SharedDescriptor(
        Descriptor(owning: try system("socket") { Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0) }))
      try system("connect") { address.withKernelForm { connect(late.raw, $0, $1) } }
      #expect(await loop.eventually { accepted == 1 })
      #expect(
        output.messages == [
          "cannot accept connections for now", "turns connections away, so that their clients do not wait in vain",
          "accepts connections again",
        ])
      acceptor.stop(takingBacklog: false)
    }
  }

  @Test("lets applications wait while no descriptors are left, and serves them all afterwards")
  func waits() async throws {
    try await onPumpLoop { loop in
      let (listener, clients) = try listener(.outbound, queueing: 20)
      let (pauses, shortage) = (Counter(), Shortage())
      let trouble = AcceptTrouble(logger: Logger(label: "test"), pauses: pauses, turnedAway: Counter())
      var accepted = 0
      let acceptor = Acceptor(listener, loop: loop, reserve: shortage.reserve, trouble: trouble) { _, _ in accepted += 1
      }
      try acceptor.start()
      #expect(await loop.eventually { pauses.value >= 13 }, "longer than the patience with tunnels")
      #expect(accepted == 0 && !clients.contains(where: isClosed))
      shortage.isOver = true
      #expect(await loop.eventually { accepted == 20 })
      acceptor.stop(takingBacklog: false)
    }
  }

  @Test("that cannot accept says so once in a while, and counts each time")
  func throttles() throws {
    let output = LogCapture()
    let pauses = Counter()
    let trouble = AcceptTrouble(logger: output.logger, pauses: pauses, turnedAway: Counter())
    for _ in 0..<50 { trouble.report(.hbone, SystemError("accept4", EMFILE)) }
    #expect(pauses.value == 50)
    #expect(output.messages.count == 1)
  }
}

/// Keeps what is logged.
private final class LogCapture: @unchecked Sendable {
  // @unchecked: used by one thread of one test.
  private(set) var messages: [String] = []

  var logger: Logger { Logger(label: "test") { _ in Handler(capture: self) } }

  private struct Handler: LogHandler {
    let capture: LogCapture
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace
    subscript(metadataKey key: String) -> Logger.MetadataValue? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }
    func log(event: LogEvent) { capture.messages.append("\(event.message)") }
  }
}
