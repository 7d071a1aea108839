import HTTP2
import Linux
import TLS
import TestSupport
import Vocabulary

/// A tunnel's client that a test plays, with the same TLS and HTTP/2 as the proxy but none of its manners.
/// Belongs to one loop.
final class HostileClient {
  let connection: HTTP2Connection
  let loop: EventLoop

  private init(_ connection: HTTP2Connection, _ loop: EventLoop) {
    self.connection = connection
    self.loop = loop
  }

  deinit { connection.close(.closedLocally) }

  /// Connects from `place` and does its half of the handshake: a server that refuses our certificate says so later.
  static func connect(
    from place: some NamespaceHolder, to server: MeshPod, _ family: IPAddress.Family = .v4,
    as certificate: WorkloadCertificate, loop: EventLoop
  ) async throws -> HostileClient {
    let address = server.address(family, port: 15008)
    let socket = SharedDescriptor(try place.place.namespace.enter { try TCPSocket.make(family) })
    if try !TCPSocket.connect(socket.raw, family, to: address) {
      try await loop.writable(socket.raw, until: .now + .seconds(5))
    }
    if let number = TCPSocket.pendingError(socket.raw) { throw SystemError("connect", number, subject: "\(address)") }
    let ssl = try TLSContext(role: .client, certificate: certificate).makeSSL(expecting: [server.spiffe])
    let connection = try HTTP2Connection(
      role: .client, socket: socket, peer: address, local: try TCPSocket.localAddress(socket.raw), ssl: ssl,
      settings: .client, loop: loop, buffers: WorkBuffers())
    try await connection.establish(until: .now + .seconds(10))
    return HostileClient(connection, loop)
  }

  /// Opens a stream with these fields.
  func open(_ fields: [(String, String)]) throws -> HTTP2Stream { try connection.open(HTTP2Headers(fields)) }

  /// A CONNECT, and the status of its answer; nil when the stream or the connection ended without one.
  func connect(_ authority: SocketAddress) async throws -> (stream: HTTP2Stream, status: Int?) {
    let stream = try open([(":method", "CONNECT"), (":authority", "\(authority)")])
    return (stream, await stream.waitForResponse() == nil ? stream.headers.status : nil)
  }

  /// A text there and back through an echo behind `authority`.
  func echo(_ text: String, through authority: SocketAddress) async throws -> String {
    let (stream, status) = try await connect(authority)
    guard status == 200 else { return "status \(status ?? 0), \(String(describing: stream.end))" }
    let tunnel = HostileStream(stream)
    tunnel.send(text.utf8)
    _ = await loop.eventually { tunnel.receivedCount >= text.utf8.count || tunnel.end != nil }
    tunnel.finish()
    _ = await loop.eventually { tunnel.end != nil }
    return String(decoding: tunnel.received, as: UTF8.self)
  }
}
