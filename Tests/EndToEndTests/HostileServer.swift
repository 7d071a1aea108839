import Glibc
import HTTP2
import Linux
import Synchronization
import TLS
import TestSupport
import Vocabulary

/// A tunnel's server that a test plays, on port 15008 of a namespace, on a loop of its own.
final class HostileServer: Sendable {
  private struct Counts {
    var connections = 0
    var requests: [String] = []
  }

  private let loop: EventLoop
  private let counts = Mutex(Counts())
  // Touched by the loop's thread only.
  nonisolated(unsafe) private var connections: [HTTP2Connection] = []
  nonisolated(unsafe) private var watch: Watch?

  /// Serves each stream by `answer`, on the loop's thread.
  init(
    in place: some NamespaceHolder, as certificate: WorkloadCertificate, settings: HTTP2Settings = .server,
    answer: @escaping @Sendable (HTTP2Stream) -> Void
  ) async throws {
    loop = try EventLoop(name: "hostile-server")
    try loop.start()
    let listener = try place.place.namespace.enter { SharedDescriptor(try TCPSocket.make(.v6)) }
    try TCPSocket.setReuseAddress(listener.raw)
    try TCPSocket.bind(listener.raw, .v6, to: SocketAddress(.any(.v6), 15008))
    try TCPSocket.listen(listener.raw, backlog: 128)
    let context = try TLSContext(role: .server, certificate: certificate)
    try await onLoop { server in
      let buffers = WorkBuffers()
      server.watch = try server.loop.watch(listener.raw, for: .readable) { [unowned server] _ in
        guard let accepted = try? TCPSocket.accept(listener.raw), let peer = accepted.peer else { return }
        server.serve(SharedDescriptor(accepted.take()), peer, context, settings, buffers, answer)
      }
    }
  }

  deinit {
    loop.stop()
    loop.join()
  }

  /// TCP connections so far.
  var connectionCount: Int { counts.withLock { $0.connections } }
  /// Authorities asked for so far.
  var requests: [String] { counts.withLock { $0.requests } }

  /// Says GOAWAY on every connection.
  func shutDownGracefully() async throws {
    try await onLoop { for connection in $0.connections { connection.shutDownGracefully() } }
  }

  /// Closes every connection without a word on its streams, and listens no more.
  func stop() async throws {
    try await onLoop { server in
      server.watch?.cancel()
      server.watch = nil
      for connection in server.connections { connection.close(.closedLocally) }
      server.connections = []
    }
  }

  private func serve(
    _ socket: SharedDescriptor, _ peer: SocketAddress, _ context: TLSContext, _ settings: HTTP2Settings,
    _ buffers: WorkBuffers, _ answer: @escaping @Sendable (HTTP2Stream) -> Void
  ) {
    guard let ssl = try? context.makeSSL(),
      let connection = try? HTTP2Connection(
        role: .server, socket: socket, peer: peer, local: peer, ssl: ssl, settings: settings, loop: loop,
        buffers: buffers)
    else { return }
    counts.withLock { $0.connections += 1 }
    connections.append(connection)
    connection.onRequest = { [unowned self] stream in
      counts.withLock { $0.requests.append(stream.headers[":authority"] ?? "") }
      answer(stream)
    }
    loop.spawn { try? await connection.establish(until: .now + .seconds(20)) }
  }

  private func onLoop(_ body: @escaping @Sendable (HostileServer) async throws -> Void) async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      loop.spawn {
        do { continuation.resume(returning: try await body(self)) } catch { continuation.resume(throwing: error) }
      }
    }
  }
}

extension HTTP2Stream {
  /// Accepts the tunnel and echoes what comes through it.
  func acceptAndEcho() {
    respond(HTTP2Headers([(":status", "200")]), endStream: false)
    _ = HostileStream(self, echoes: true)
  }
}
