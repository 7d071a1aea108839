import Glibc
import HTTP2
import Linux
import TLS
import TestSupport
import Vocabulary

@testable import Ztunnel

/// Runs `body` on a loop that ends with it.
func onPumpLoop(_ body: @escaping @Sendable (EventLoop) async throws -> Void) async throws {
  let loop = try EventLoop(name: "pump-test")
  try loop.start()
  defer {
    loop.stop()
    loop.join()
  }
  try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
    loop.spawn {
      do { continuation.resume(returning: try await body(loop)) } catch { continuation.resume(throwing: error) }
    }
  }
}

/// How a pump ended, once it has.
final class OutcomeBox {
  var outcome: PumpOutcome?

  /// Starts a pump and keeps it, as a connection does, until it ends.
  func watch(_ pump: any Pump) {
    pump.start { [self] outcome in
      self.outcome = outcome
      withExtendedLifetime(pump) {}
    }
  }
}

/// The application's end of a TCP connection over loopback, of which the pump has the other.
final class Application {
  private var socket: SharedDescriptor?
  private(set) var received: [UInt8] = []
  private(set) var hasEnded = false
  private(set) var error: CInt?
  private var patternSent = 0

  /// A connection: what the pump is given, and the application's end of it.
  static func connected() throws -> (pumped: SharedDescriptor, application: Application) {
    let listener = SharedDescriptor(try TCPSocket.make(.v4))
    try TCPSocket.bind(listener.raw, .v4, to: SocketAddress(.loopback(.v4), 0))
    try TCPSocket.listen(listener.raw, backlog: 1)
    let near = SharedDescriptor(try TCPSocket.make(.v4))
    _ = try TCPSocket.connect(near.raw, .v4, to: try TCPSocket.localAddress(listener.raw))
    while true {
      if let accepted = try TCPSocket.accept(listener.raw) {
        return (SharedDescriptor(accepted.take()), Application(near))
      }
      usleep(1000)
    }
  }

  init(_ socket: SharedDescriptor) {
    self.socket = socket
  }

  /// Sends what the kernel takes at once. Returns how much that was.
  @discardableResult
  func send(_ bytes: some Collection<UInt8>) -> Int {
    guard let socket else { return 0 }
    let bytes = Array(bytes)
    var sent = 0
    while sent < bytes.count {
      guard
        case .moved(let count) = bytes.withUnsafeBytes({
          RawIO.write(socket.raw, UnsafeRawBufferPointer(rebasing: $0[sent...]))
        })
      else { break }
      sent += count
    }
    return sent
  }

  /// Sends ``BytePattern`` on, up to `count` bytes in all, as far as the kernel takes it at once. Returns how much of it
  /// is sent by now.
  @discardableResult
  func sendPattern(upTo count: Int) -> Int {
    if patternSent < count { patternSent += send(BytePattern.slice(at: patternSent, count: count - patternSent)) }
    return patternSent
  }

  func finish() { if let socket { TCPSocket.shutdownWrite(socket.raw) } }

  /// Resets the connection.
  func reset() {
    if let socket { TCPSocket.setResetOnClose(socket.raw) }
    socket = nil
  }

  /// Takes what is there.
  func receive() {
    guard let socket else { return }
    var room = [UInt8](repeating: 0, count: 1 << 18)
    while !hasEnded, error == nil {
      switch room.withUnsafeMutableBytes({ RawIO.read(socket.raw, $0) }) {
      case .moved(let count): received += room[..<count]
      case .ended: hasEnded = true
      case .wouldBlock: return
      case .failed(let number): error = number
      }
    }
  }

  var text: String { String(decoding: received, as: UTF8.self) }
}

/// A tunnel in this process: a client's connection and a server's, over a pair of sockets.
final class TunnelPair {
  let client: HTTP2Connection
  let server: HTTP2Connection
  private let loop: EventLoop
  private var requests: [HTTP2Stream] = []

  /// With `sendBuffer`, the kernel takes only about so many bytes of the server's at once.
  init(loop: EventLoop, sendBuffer: CInt? = nil) async throws {
    self.loop = loop
    let now = Timestamp.now
    let key = try PrivateKey.generate()
    let life = (now.advanced(bySeconds: -60), now.advanced(bySeconds: 3600))
    let root = try CertificateTemplate(commonName: "root", isAuthority: true, notBefore: life.0, notAfter: life.1)
      .signed(for: key)
    let identity = SPIFFEIdentity(trustDomain: "td", namespace: "ns", serviceAccount: "sa")
    let leafKey = try PrivateKey.generate()
    let leaf = try CertificateTemplate(
      alternativeNames: [.uri(identity.description)], usages: [.clientAuthentication, .serverAuthentication],
      notBefore: life.0, notAfter: life.1
    ).signed(for: leafKey, by: (root, key))
    let certificate = try WorkloadCertificate(chain: [leaf], privateKey: leafKey, roots: [root])
    var ends: [CInt] = [-1, -1]
    let kind = CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    try system("socketpair") { socketpair(AF_UNIX, kind, 0, &ends) }
    if var sendBuffer {
      try system("setsockopt") {
        setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &sendBuffer, socklen_t(MemoryLayout<CInt>.size))
      }
    }
    let nowhere = SocketAddress(.loopback(.v4), 0)
    let buffers = WorkBuffers()
    client = try HTTP2Connection(
      role: .client, socket: SharedDescriptor(Descriptor(owning: ends[0])), peer: nowhere, local: nowhere,
      ssl: try TLSContext(role: .client, certificate: certificate).makeSSL(expecting: [identity]), settings: .client,
      loop: loop, buffers: buffers)
    server = try HTTP2Connection(
      role: .server, socket: SharedDescriptor(Descriptor(owning: ends[1])), peer: nowhere, local: nowhere,
      ssl: try TLSContext(role: .server, certificate: certificate).makeSSL(), settings: .server, loop: loop,
      buffers: buffers)
    server.onRequest = { [unowned self] in requests.append($0) }
    loop.spawn { [server] in try? await server.establish(until: .now + .seconds(5)) }
    try await client.establish(until: .now + .seconds(5))
  }

  /// Ends both connections.
  func close() {
    client.close(.closedLocally)
    server.close(.closedLocally)
  }

  /// An accepted CONNECT: the client's stream and the server's.
  func open() async throws -> (client: HTTP2Stream, server: HTTP2Stream) {
    let count = requests.count
    let stream = try client.open(HTTP2Headers([(":method", "CONNECT"), (":authority", "10.0.0.1:80")]))
    _ = await loop.eventually { requests.count > count }
    guard let request = requests.last else { throw HTTP2Error.unavailable }
    request.respond(HTTP2Headers([(":status", "200")]), endStream: false)
    _ = await stream.waitForResponse()
    return (stream, request)
  }
}

/// The far end of a pumped stream, in memory.
final class FarEnd: HTTP2StreamHandler {
  let stream: HTTP2Stream
  private(set) var received: [UInt8] = []
  private(set) var hasEnded = false
  private(set) var end: HTTP2StreamEnd?
  /// Bytes of ``BytePattern`` that the peer's window let it send.
  private(set) var supplied = 0
  private var pattern = 0
  private var outgoing: [UInt8] = []
  private var isFinished = false

  init(_ stream: HTTP2Stream) {
    self.stream = stream
    stream.handler = self
  }

  var text: String { String(decoding: received, as: UTF8.self) }

  func send(_ text: String, andFinish: Bool = false) {
    outgoing += Array(text.utf8)
    isFinished = andFinish
    stream.resumeSending()
  }

  func sendPattern(_ count: Int) {
    pattern = count
    stream.resumeSending()
  }

  func finish() {
    isFinished = true
    stream.resumeSending()
  }

  func streamSupply(_ room: UnsafeMutableRawBufferPointer) -> HTTP2Supply {
    let bytes =
      supplied < pattern
      ? BytePattern.slice(at: supplied, count: min(room.count, pattern - supplied)) : outgoing.prefix(room.count)
    guard !bytes.isEmpty else { return isFinished ? .end : .nothingYet }
    room.copyBytes(from: bytes)
    if supplied < pattern { supplied += bytes.count } else { outgoing.removeFirst(bytes.count) }
    return .bytes(bytes.count)
  }

  func streamReceived(_ chunk: UnsafeRawBufferPointer) {
    received += chunk
    stream.consume(chunk.count)
  }

  func streamReceivedEnd() { hasEnded = true }
  func streamRoundEnded() {}
  func streamClosed(_ end: HTTP2StreamEnd) { self.end = end }
}
