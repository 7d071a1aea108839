import Glibc
import Linux
import Vocabulary

@testable import Redirection

/// A TCP socket inside a test's namespace. Every wait is bounded.
final class TestSocket: Sendable {
  let descriptor: SharedDescriptor
  var raw: CInt { descriptor.raw }

  init(_ descriptor: consuming Descriptor) { self.descriptor = SharedDescriptor(descriptor) }

  /// A listener in a namespace.
  static func listening(in pod: TestNamespace, on address: SocketAddress, mark: UInt32 = 0) throws
    -> TestSocket
  {
    let socket = TestSocket(try pod.namespace.enter { try TCPSocket.make(address.ip.family) })
    try TCPSocket.setReuseAddress(socket.raw)
    try TCPSocket.setTransparent(socket.raw)
    if mark != 0 { try TCPSocket.setMark(socket.raw, mark) }
    try TCPSocket.bind(socket.raw, address.ip.family, to: address)
    try TCPSocket.listen(socket.raw, backlog: 8)
    return socket
  }

  /// A connection from a namespace, or nil when it was not made in time. `borrowed` is a source address that need not be
  /// local, as ztunnel uses it.
  static func connected(
    in pod: TestNamespace, to address: SocketAddress, mark: UInt32 = 0, from source: SocketAddress? = nil,
    borrowed: Bool = false, hopLimit: CInt? = nil, within milliseconds: CInt = 3000
  ) throws -> TestSocket? {
    let socket = TestSocket(try pod.namespace.enter { try TCPSocket.make(address.ip.family) })
    if mark != 0 { try TCPSocket.setMark(socket.raw, mark) }
    if var hopLimit {
      let (level, option) =
        address.ip.family == .v4 ? (CInt(IPPROTO_IP), IP_TTL) : (CInt(IPPROTO_IPV6), IPV6_UNICAST_HOPS)
      setsockopt(socket.raw, level, option, &hopLimit, socklen_t(MemoryLayout<CInt>.size))
    }
    if borrowed { try TCPSocket.setSpoofing(socket.raw, address.ip.family) }
    if let source { try TCPSocket.bind(socket.raw, address.ip.family, to: source) }
    _ = try TCPSocket.connect(socket.raw, address.ip.family, to: address)
    guard waits(socket.raw, POLLOUT, milliseconds) else { return nil }
    return TCPSocket.pendingError(socket.raw) == nil ? socket : nil
  }

  /// The next connection and where it wanted to go, or nil when none comes in time.
  func accepted(within milliseconds: CInt = 3000) throws -> (
    socket: TestSocket, peer: SocketAddress?, wanted: SocketAddress?
  )? {
    guard Self.waits(raw, POLLIN, milliseconds), let connection = try TCPSocket.accept(raw) else { return nil }
    let peer = connection.peer
    let socket = TestSocket(connection.take())
    return (socket, peer, TCPSocket.originalDestination(socket.raw))
  }

  func send(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    return Glibc.send(raw, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count
  }

  func received(within milliseconds: CInt = 3000) -> String? {
    guard Self.waits(raw, POLLIN, milliseconds) else { return nil }
    var buffer = [UInt8](repeating: 0, count: 256)
    let count = recv(raw, &buffer, buffer.count, 0)
    return count < 0 ? nil : String(decoding: buffer.prefix(count), as: UTF8.self)
  }

  static func waits(_ raw: CInt, _ event: CInt, _ milliseconds: CInt) -> Bool {
    var watch = pollfd(fd: raw, events: Int16(event), revents: 0)
    return poll(&watch, 1, milliseconds) == 1
  }
}
