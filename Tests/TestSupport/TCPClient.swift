import CLinux
import Glibc
import Linux
public import Vocabulary

/// What a ``TCPConnection`` reports besides ``SystemError``.
public enum TCPTestError: Error, Equatable {
  case timedOut(String)
  /// The peer ended its side with so many bytes still expected.
  case endedEarly(missing: Int)
  /// The bytes from a position on are not what was sent.
  case corrupted(near: Int)
}

/// Opens connections from inside a namespace.
public struct TCPClient: Sendable {
  private let namespace: NetworkNamespace

  public init(in holder: some NamespaceHolder) { self.init(in: holder.place.namespace) }

  public init(in namespace: NetworkNamespace) { self.namespace = namespace }

  /// Connects, optionally from a local address. Throws ``SystemError`` (such as `ECONNREFUSED`) or ``TCPTestError``. A
  /// connection that was made and reset before anybody looked is one whose first use finds the reset.
  public func connect(
    to address: SocketAddress, from source: SocketAddress? = nil, timeout: Duration = .seconds(5)
  ) throws -> TCPConnection {
    let family = address.ip.family == .v4 ? AF_INET : AF_INET6
    let socket = try namespace.enter {
      SharedDescriptor(
        Descriptor(
          owning: try system("socket") {
            Glibc.socket(family, CInt(SOCK_STREAM.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
          }))
    }
    if let source { try system("bind", "\(source)") { source.withKernelForm { bind(socket.raw, $0, $1) } } }
    var connection = TCPConnection(socket)
    if address.withKernelForm({ Glibc.connect(socket.raw, $0, $1) }) == -1 {
      guard errno == EINPROGRESS else { throw SystemError("connect", errno, subject: "\(address)") }
      try connection.wait(POLLOUT, Deadline(in: timeout), "connecting to \(address)")
      var number: CInt = 0
      var length = socklen_t(MemoryLayout<CInt>.size)
      try system("getsockopt") { getsockopt(socket.raw, SOL_SOCKET, SO_ERROR, &number, &length) }
      // Who is refused sees another error.
      if number == ECONNRESET {
        connection = TCPConnection(socket, isReset: true)
      } else if number != 0 {
        throw SystemError("connect", number, subject: "\(address)")
      }
    }
    return connection
  }
}

/// One end of a TCP connection whose every wait is bounded. Closed when the last reference goes.
public final class TCPConnection: Sendable {
  private let socket: SharedDescriptor
  /// It was found to be reset already; the kernel says so only once.
  private let isReset: Bool

  init(_ socket: SharedDescriptor, isReset: Bool = false) {
    self.socket = socket
    self.isReset = isReset
  }

  /// Its own address.
  public var localAddress: SocketAddress? { SocketAddress.fromKernel { getsockname(socket.raw, $0, $1) } }

  /// Sends everything. Throws ``SystemError`` (such as `ECONNRESET`) or ``TCPTestError``.
  public func send(_ bytes: some Collection<UInt8>, timeout: Duration = .seconds(10)) throws {
    let deadline = Deadline(in: timeout)
    var rest = Array(bytes)[...]
    while !rest.isEmpty {
      try wait(POLLOUT, deadline, "sending")
      rest = rest.dropFirst(try sendSome(rest))
    }
  }

  /// Sends a text.
  public func send(_ text: String) throws { try send(Array(text.utf8)) }

  /// Receives exactly `count` bytes; throws ``TCPTestError/endedEarly(missing:)`` when there are fewer.
  public func receive(_ count: Int, timeout: Duration = .seconds(10)) throws -> [UInt8] {
    let deadline = Deadline(in: timeout)
    var received: [UInt8] = []
    while received.count < count {
      let chunk = try receiveSome(atMost: count - received.count, deadline)
      if chunk.isEmpty { throw TCPTestError.endedEarly(missing: count - received.count) }
      received += chunk
    }
    return received
  }

  /// Receives until the peer ends its side.
  public func receiveToEnd(timeout: Duration = .seconds(10)) throws -> [UInt8] {
    let deadline = Deadline(in: timeout)
    var received: [UInt8] = []
    while true {
      let chunk = try receiveSome(atMost: 1 << 18, deadline)
      if chunk.isEmpty { return received }
      received += chunk
    }
  }

  /// Receives text until the peer ends its side.
  public func receiveTextToEnd(timeout: Duration = .seconds(10)) throws -> String {
    String(decoding: try receiveToEnd(timeout: timeout), as: UTF8.self)
  }

  /// Sends a text and receives as many bytes: what an echo answers.
  public func exchange(_ text: String, timeout: Duration = .seconds(10)) throws -> String {
    try send(Array(text.utf8), timeout: timeout)
    return String(decoding: try receive(text.utf8.count, timeout: timeout), as: UTF8.self)
  }

  /// Sends so many bytes of ``BytePattern`` from its beginning.
  public func sendPattern(_ count: Int, timeout: Duration = .seconds(60)) throws {
    let deadline = Deadline(in: timeout)
    var sent = 0
    while sent < count {
      try wait(POLLOUT, deadline, "sending byte \(sent) of \(count)")
      sent += try sendSome(BytePattern.slice(at: sent, count: count - sent))
    }
  }

  /// Receives so many bytes and compares them with ``BytePattern``.
  public func receivePattern(_ count: Int, timeout: Duration = .seconds(60)) throws {
    let deadline = Deadline(in: timeout)
    var received = 0
    while received < count { received += try receivePatternPart(at: received, of: count, deadline) }
  }

  /// Sends the pattern and receives it back at the same time, as an echo of much data needs.
  public func echoPattern(_ count: Int, timeout: Duration = .seconds(60)) throws {
    let deadline = Deadline(in: timeout)
    var sent = 0
    var received = 0
    while received < count {
      let ready = try wait(POLLIN | (sent < count ? POLLOUT : 0), deadline, "echoing byte \(received) of \(count)")
      if ready & POLLOUT != 0, sent < count {
        sent += try sendSome(BytePattern.slice(at: sent, count: count - sent))
      }
      if ready & ~POLLOUT != 0 { received += try receivePatternPart(at: received, of: count, deadline) }
    }
  }

  /// Ends this side: the peer sees the end and may still send.
  public func finishSending() throws {
    try system("shutdown") { shutdown(socket.raw, CInt(SHUT_WR)) }
  }

  /// Makes the close that follows the last reference an RST.
  public func resetOnClose() { setLinger0(socket) }

  /// Waits until any of the events is there; returns those that are. Throws ``TCPTestError/timedOut(_:)``.
  @discardableResult
  func wait(_ events: CInt, _ deadline: Deadline, _ doing: @autoclosure () -> String) throws -> CInt {
    var entry = pollfd(fd: socket.raw, events: Int16(events), revents: 0)
    let ready = try system("poll") { poll(&entry, 1, deadline.milliseconds) }
    guard ready > 0 else { throw TCPTestError.timedOut(doing()) }
    return CInt(entry.revents)
  }

  private func sendSome(_ bytes: ArraySlice<UInt8>) throws -> Int {
    if isReset { throw SystemError("send", ECONNRESET) }
    do {
      return try system("send") {
        bytes.withUnsafeBytes { Glibc.send(socket.raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
      }
    } catch {
      guard error.number == EAGAIN else { throw error }
      return 0
    }
  }

  private func receiveSome(atMost count: Int, _ deadline: Deadline) throws -> [UInt8] {
    if isReset { throw SystemError("recv", ECONNRESET) }
    while true {
      try wait(POLLIN, deadline, "receiving")
      var chunk = [UInt8](repeating: 0, count: min(count, 1 << 18))
      do {
        let received = try system("recv") { recv(socket.raw, &chunk, chunk.count, 0) }
        return Array(chunk[..<received])
      } catch {
        guard error.number == EAGAIN else { throw error }
      }
    }
  }

  private func receivePatternPart(at position: Int, of count: Int, _ deadline: Deadline) throws -> Int {
    let chunk = try receiveSome(atMost: count - position, deadline)
    if chunk.isEmpty { throw TCPTestError.endedEarly(missing: count - position) }
    guard BytePattern.matches(chunk, at: position) else { throw TCPTestError.corrupted(near: position) }
    return chunk.count
  }
}
