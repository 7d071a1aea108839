import DNS
import Glibc
import Linux
import Vocabulary

/// Forwards one message over UDP. Every try has a socket of its own, with a port the kernel picks at random, and an id
/// of its own; an answer to an earlier try still counts.
final class UpstreamDatagrams: UpstreamExchange {
  private final class Attempt {
    let server: IPAddress
    let socket: SharedDescriptor
    let passage: Passage
    var watch: Watch?
    var strays = 0

    init(_ server: IPAddress, _ socket: SharedDescriptor, _ passage: Passage) {
      self.server = server
      self.socket = socket
      self.passage = passage
    }
  }

  private let message: [UInt8]
  private let question: Question?
  private let context: UpstreamContext
  private let scratch: UnsafeMutableRawBufferPointer
  private var plan: ForwardPlan
  private var attempts: [Attempt] = []
  private var timer: LoopTimer?
  private var deadline: LoopTimer?
  /// An answer that another server may better.
  private var fallback: [UInt8]?
  private var failure: UpstreamError?
  private var completion: ((Result<[UInt8], UpstreamError>) -> Void)?

  /// Tries that are listened to at once.
  private static let mostAttempts = 2
  /// Datagrams that answer nothing, after which a try is given up: somebody is guessing.
  private static let mostStrays = 16

  init(
    _ message: [UInt8], _ question: Question?, _ context: UpstreamContext, scratch: UnsafeMutableRawBufferPointer
  ) {
    self.message = message
    self.question = question
    self.context = context
    self.scratch = scratch
    plan = context.nameServers.plan()
  }

  /// Sends; `completion` is called once, perhaps at once.
  func start(_ completion: @escaping (Result<[UInt8], UpstreamError>) -> Void) {
    self.completion = completion
    let limit = plan.limit
    deadline = context.loop.schedule(after: limit) { [unowned self] in finish(.failure(.timeout(limit))) }
    tryNext()
  }

  func cancel() {
    fallback = nil
    finish(.failure(.stopped))
  }

  private func tryNext() {
    timer?.cancel()
    timer = nil
    while completion != nil {
      guard let server = plan.next() else {
        // The last try has the rest of the time.
        if attempts.isEmpty { finish(.failure(failure ?? .noNameServer)) }
        return
      }
      do throws(UpstreamError) {
        try ask(server)
        timer = context.loop.schedule(after: plan.tryLimit) { [unowned self] in tryNext() }
        return
      } catch { failure = error }
    }
  }

  private func ask(_ server: IPAddress) throws(UpstreamError) {
    var random = SystemRandomNumberGenerator()
    guard let passage = Passage(message, question: question, id: random.next()) else {
      return finish(.failure(.stopped))
    }
    let socket = try context.socket(to: server) { family throws(SystemError) in try UDPSocket.make(family) }
    let attempt = Attempt(server, socket, passage)
    do throws(SystemError) {
      // Connected, the kernel takes datagrams of this server only, and tells of its absence.
      _ = try TCPSocket.connect(socket.raw, server.family, to: SocketAddress(server, ResolverConfiguration.port))
      try UDPSocket.send(socket.raw, passage.outgoing)
      attempt.watch = try context.loop.watch(socket.raw, for: .readable) { [unowned self, unowned attempt] _ in
        receive(attempt)
      }
    } catch { throw .unreachable(error) }
    if attempts.count >= Self.mostAttempts, let oldest = attempts.first { close(oldest) }
    attempts.append(attempt)
  }

  private func receive(_ attempt: Attempt) {
    while completion != nil, attempt.watch != nil {
      let count: Int
      do throws(SystemError) {
        guard let datagram = try UDPSocket.receive(attempt.socket.raw, into: scratch) else { return }
        count = datagram.count
      } catch {
        failure = .unreachable(error)
        return giveUp(attempt)
      }
      guard let answer = attempt.passage.accept([UInt8](scratch[..<count])) else {
        attempt.strays += 1
        if attempt.strays >= Self.mostStrays { return giveUp(attempt) }
        continue
      }
      received(answer, attempt)
    }
  }

  private func received(_ answer: [UInt8], _ attempt: Attempt) {
    guard Passage.isWorthAnotherServer(answer) else {
      context.nameServers.preferred = attempt.server
      return finish(.success(answer))
    }
    fallback = answer
    let server = attempt.server
    close(attempt)
    let hasAnother = plan.giveUp(on: server)
    if hasAnother { return tryNext() }
    if attempts.isEmpty { finish(.success(answer)) }
  }

  private func giveUp(_ attempt: Attempt) {
    close(attempt)
    if attempts.isEmpty { tryNext() }
  }

  private func close(_ attempt: Attempt) {
    attempt.watch?.cancel()
    attempt.watch = nil
    attempts.removeAll { $0 === attempt }
  }

  private func finish(_ result: Result<[UInt8], UpstreamError>) {
    guard let completion else { return }
    self.completion = nil
    timer?.cancel()
    deadline?.cancel()
    for attempt in attempts {
      attempt.watch?.cancel()
      attempt.watch = nil
    }
    attempts = []
    if case .failure = result, let fallback { return completion(.success(fallback)) }
    completion(result)
  }
}
