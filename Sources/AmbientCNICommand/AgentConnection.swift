import CNI
import Glibc

/// The way to the node agent: one connection to its unix socket for one question.
enum AgentConnection {
  /// Between two looks for an agent that is not there.
  private static let pause: UInt32 = 100_000

  static func ask(_ inquiry: PluginCall.Inquiry) -> PluginCall.Outcome {
    let start = ContinuousClock.now
    let deadline = start + .seconds(inquiry.timeout)
    do throws(PollError) {
      let socket = try connect(inquiry.socketPath, until: start + .seconds(inquiry.patience))
      defer { close(socket) }
      // The time that is left, not the one there was: the agent's answer must come before nobody waits any more.
      let question = inquiry.question(leaving: ContinuousClock.now.duration(to: deadline))
      try send(HTTPExchange.request(inquiry.subject.rawValue, body: question.body), to: socket, until: deadline)
      guard let answer = HTTPExchange.answer(try receive(from: socket, until: deadline)) else {
        return .unanswered("it closed the connection without a whole answer")
      }
      return .answered(AgentAnswer(status: answer.status, body: answer.body))
    } catch {
      return .unanswered(error.reason)
    }
  }

  /// Goes on trying while nobody listens: the agent may be starting anew.
  private static func connect(_ path: String, until deadline: ContinuousClock.Instant) throws(PollError) -> CInt {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path), !path.utf8.contains(0) else {
      throw PollError("the path is too long for a socket")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    while true {
      let socket = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
      guard socket >= 0 else { throw PollError(errno: errno, "socket") }
      let status = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          Glibc.connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      let number = errno
      if status == 0 { return socket }
      close(socket)
      let mayAppear = [ENOENT, ECONNREFUSED, EAGAIN, EINTR].contains(number)
      guard mayAppear, ContinuousClock.now < deadline else { throw PollError(errno: number, "connect") }
      usleep(pause)
    }
  }

  private static func send(
    _ bytes: [UInt8], to socket: CInt, until deadline: ContinuousClock.Instant
  ) throws(PollError) {
    var rest = bytes[...]
    while !rest.isEmpty {
      try poll(socket, for: POLLOUT, until: deadline)
      let count = rest.withUnsafeBytes {
        Glibc.send(socket, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL | MSG_DONTWAIT))
      }
      if count < 0 {
        guard errno == EINTR || errno == EAGAIN else { throw PollError(errno: errno, "send") }
        continue
      }
      rest = rest.dropFirst(count)
    }
  }

  private static func receive(
    from socket: CInt, until deadline: ContinuousClock.Instant
  ) throws(PollError) -> [UInt8] {
    var answer: [UInt8] = []
    while true {
      try poll(socket, for: POLLIN, until: deadline)
      let bytes = try readSome(socket).get()
      if bytes.isEmpty { return answer }
      answer += bytes
      guard answer.count <= HTTPExchange.largestAnswer else { throw PollError("its answer is too long") }
    }
  }
}
