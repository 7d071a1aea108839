import CLinux
import DNS
import Glibc
import Linux
import Vocabulary

/// Forwards one message over TCP, a connection for each try: whoever asked over TCP needs an answer that has no bounds
/// of a datagram.
final class UpstreamStream: UpstreamExchange {
  private let message: [UInt8]
  private let question: Question?
  private let context: UpstreamContext
  private let scratch: UnsafeMutableRawBufferPointer
  private var socket: SharedDescriptor?
  private var isCancelled = false

  init(
    _ message: [UInt8], _ question: Question?, _ context: UpstreamContext, scratch: UnsafeMutableRawBufferPointer
  ) {
    self.message = message
    self.question = question
    self.context = context
    self.scratch = scratch
  }

  func cancel() {
    isCancelled = true
    // Wakes whatever waits for the socket.
    if let socket { shutdown(socket.raw, CInt(SHUT_RDWR)) }
  }

  /// The answer of the first server that has one.
  func run() async -> Result<[UInt8], UpstreamError> {
    var plan = context.nameServers.plan()
    let deadline = ContinuousClock.now + plan.limit
    var failure = UpstreamError.noNameServer
    var fallback: [UInt8]?
    while !isCancelled, ContinuousClock.now < deadline, let server = plan.next() {
      do throws(UpstreamError) {
        let answer = try await ask(server, until: min(deadline, .now + plan.tryLimit), plan.tryLimit)
        guard Passage.isWorthAnotherServer(answer) else {
          context.nameServers.preferred = server
          return .success(answer)
        }
        fallback = answer
        if !plan.giveUp(on: server) { break }
      } catch { failure = error }
    }
    if isCancelled { return .failure(.stopped) }
    return fallback.map { .success($0) } ?? .failure(failure)
  }

  private func ask(_ server: IPAddress, until deadline: ContinuousClock.Instant, _ limit: Duration)
    async throws(UpstreamError) -> [UInt8]
  {
    var random = SystemRandomNumberGenerator()
    guard let passage = Passage(message, question: question, id: random.next()) else { throw .stopped }
    let socket = try context.socket(to: server) { family throws(SystemError) in try TCPSocket.make(family) }
    self.socket = socket
    defer { self.socket = nil }
    let stream = MessageStream(socket, loop: context.loop, scratch: scratch)
    do throws(WaitError) {
      try await connect(socket.raw, server, until: deadline)
      try await stream.send(passage.outgoing, until: deadline)
      guard let reply = try await stream.receive(until: deadline) else {
        throw .system(SystemError("recv", ECONNRESET, subject: "\(server)"))
      }
      // There is one question on this connection, so anything else is no resolver.
      guard let answer = passage.accept(reply) else {
        throw .system(SystemError("recv", EPROTO, subject: "\(server)"))
      }
      return answer
    } catch {
      switch error {
      case .deadlineExceeded: throw .timeout(limit)
      case .system(let error): throw .unreachable(error)
      }
    }
  }

  private func connect(_ raw: CInt, _ server: IPAddress, until deadline: ContinuousClock.Instant)
    async throws(WaitError)
  {
    let address = SocketAddress(server, ResolverConfiguration.port)
    TCPSocket.setNoDelay(raw)
    do throws(SystemError) {
      if try TCPSocket.connect(raw, server.family, to: address) { return }
    } catch { throw .system(error) }
    try await context.loop.writable(raw, until: deadline)
    if let number = TCPSocket.pendingError(raw) {
      throw .system(SystemError("connect", number, subject: "\(address)"))
    }
  }
}
