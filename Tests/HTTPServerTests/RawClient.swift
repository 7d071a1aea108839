import Glibc
import Linux
import Vocabulary

@testable import HTTPServer

/// A client that sends what bytes it likes. Blocking, with bounded waits.
final class RawClient {
  private let socket: SharedDescriptor

  init(_ address: SocketAddress) throws {
    guard case .v4(let ip) = address.ip else { throw SystemError("connect", EAFNOSUPPORT) }
    socket = SharedDescriptor(
      Descriptor(
        owning: try system("socket") { Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue) | O_CLOEXEC, 0) }))
    var kernel = sockaddr_in()
    kernel.sin_family = sa_family_t(AF_INET)
    kernel.sin_port = address.port.bigEndian
    kernel.sin_addr.s_addr = ip.bigEndian
    let raw = socket.raw
    try withUnsafePointer(to: &kernel) {
      try $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        _ = try system("connect") { connect(raw, pointer, socklen_t(MemoryLayout<sockaddr_in>.size)) }
      }
    }
    boundWaits()
  }

  init(unix path: String) throws {
    socket = SharedDescriptor(
      Descriptor(
        owning: try system("socket") { Glibc.socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | O_CLOEXEC, 0) }))
    var kernel = sockaddr_un()
    kernel.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &kernel.sun_path) { $0.copyBytes(from: path.utf8) }
    let raw = socket.raw
    try withUnsafePointer(to: &kernel) {
      try $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        _ = try system("connect") { connect(raw, pointer, socklen_t(MemoryLayout<sockaddr_un>.size)) }
      }
    }
    boundWaits()
  }

  private func boundWaits() {
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(socket.raw, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(socket.raw, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
  }

  func shrinkReceiveBuffer() {
    var size: CInt = 4096
    setsockopt(socket.raw, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<CInt>.size))
  }

  /// False when the server no longer takes it.
  @discardableResult
  func send(_ text: String) -> Bool {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.send(socket.raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
      if count <= 0 { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }

  func finishSending() { _ = shutdown(socket.raw, CInt(SHUT_WR)) }

  /// Some bytes, nil at the end of the connection; throws when nothing comes for 20 seconds.
  func receiveSome() throws -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: 64 << 10)
    let count = bytes.withUnsafeMutableBytes { recv(socket.raw, $0.baseAddress, $0.count, 0) }
    if count > 0 { return Array(bytes[..<count]) }
    if count == 0 || errno == ECONNRESET { return nil }
    throw SystemError("recv", errno)
  }

  /// Everything until the server ends the connection.
  func receiveAll() throws -> String {
    var bytes: [UInt8] = []
    while let some = try receiveSome() { bytes += some }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Until `text` has come, or the end.
  func receive(until text: String) throws -> String {
    var received = ""
    while !received.contains(text), let some = try receiveSome() { received += String(decoding: some, as: UTF8.self) }
    return received
  }
}

/// A server with its loop, on a port of its own on loopback.
final class RunningServer {
  let loop: EventLoop
  let server: HTTPServer
  let address: SocketAddress

  init(limits: HTTPLimits = HTTPLimits(), handler: @escaping HTTPServer.Handler) throws {
    loop = try EventLoop(name: "http-test")
    try loop.start()
    server = HTTPServer(on: loop, limits: limits, handler: handler)
    let bound = try server.listen(on: .address(SocketAddress(.loopback(.v4), 0)))
    address = bound ?? SocketAddress(.loopback(.v4), 0)
  }

  deinit {
    loop.stop()
    loop.join()
  }

  func client() throws -> RawClient { try RawClient(address) }

  /// Sends bytes, and returns everything that comes back until the server ends the connection.
  func exchange(_ text: String) throws -> String {
    let client = try client()
    client.send(text)
    client.finishSending()
    return try client.receiveAll()
  }
}
