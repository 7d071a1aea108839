import CLinux
import Glibc
import Linux

/// One TCP connection to the DNS proxy: a message, its answer, the next message (dns.md §2).
final class DNSConnection {
  private let stream: MessageStream
  private unowned let dns: PodDNS
  private var isAnswering = false
  private var hasAnswered = false
  private var isEnding = false

  /// Time for a complete request to come, and for an answer to be taken.
  private static let limit = Duration.seconds(5)

  init(_ stream: MessageStream, _ dns: PodDNS) {
    self.stream = stream
    self.dns = dns
  }

  /// Serves the connection until it ends.
  func run() async {
    do throws(WaitError) {
      repeat {
        guard let message = try await stream.receive(until: .now + Self.limit) else { return }
        isAnswering = true
        let answer = await withUnsafeContinuation { continuation in
          dns.answer(message, over: .stream) { continuation.resume(returning: $0) }
        }
        isAnswering = false
        // Whoever sends what is no query speaks another protocol.
        guard let answer else { return }
        hasAnswered = true
        try await stream.send(answer, until: .now + Self.limit)
      } while !isEnding
    } catch {
      // The client has gone or is too slow: there is nobody left to tell.
    }
  }

  /// Ends once the request under way, or the first one, is answered.
  func finish() {
    isEnding = true
    if hasAnswered, !isAnswering { cut() }
  }

  /// Ends at once.
  func cut() {
    isEnding = true
    shutdown(stream.socket.raw, CInt(SHUT_RDWR))
  }
}
