import HTTP2
import Identity
import Linux
import TLS
import Vocabulary

/// One HBONE connection that a peer opened to the pod: TLS first, then any number of streams (hbone.md §2.2).
struct InboundTunnel {
  let pod: PodWorker
  let socket: SharedDescriptor
  let peer: SocketAddress
  let preservesSource: Bool

  /// Time the TLS handshake may take, from the first byte we wait for.
  private static let handshakeLimit = Duration.seconds(10)

  init(_ pod: PodWorker, _ socket: SharedDescriptor, _ peer: SocketAddress, preservesSource: Bool) {
    self.pod = pod
    self.socket = socket
    self.peer = peer
    self.preservesSource = preservesSource
  }

  /// Establishes the tunnel; it then lives by itself. `handshakeEnded` is called once, whatever came of it.
  func run(handshakeEnded: () -> Void) async {
    defer { handshakeEnded() }
    guard let local = try? TCPSocket.localAddress(socket.raw) else { return }
    do throws(ProxyError) {
      let connection = try await accept(at: local)
      let start = ContinuousClock.now
      do throws(HTTP2ConnectionError) { try await connection.establish(until: .now + Self.handshakeLimit) } catch {
        throw .tunnelFailed(error)
      }
      pod.worker.metrics.inboundHandshakes.observe(.now - start)
      pod.established(connection)
    } catch {
      pod.deny(from: peer, to: local, .inbound, error)
    }
  }

  private func accept(at local: SocketAddress) async throws(ProxyError) -> HTTP2Connection {
    let worker = pod.worker
    let workload = try await worker.localWorkload(pod.pod.info)
    let credentials = try await worker.credentials(of: workload)
    let ssl: OpaquePointer
    do throws(TLSError) { ssl = try credentials.context(.server).makeSSL() } catch { throw .tls(error) }
    let connection: HTTP2Connection
    do throws(HTTP2ConnectionError) {
      connection = try HTTP2Connection(
        role: .server, socket: socket, peer: peer, local: local, ssl: ssl, settings: worker.serverSettings,
        loop: worker.loop, buffers: worker.buffers)
    } catch { throw .tunnelFailed(error) }
    connection.onRequest = { [unowned connection, pod, preservesSource] stream in
      guard let identity = connection.peerIdentity else {
        // The handshake demands one; without it nobody could be held to a policy.
        stream.reset(.internalError)
        return
      }
      let proxy = InboundProxy(
        pod: pod, stream: stream, peer: connection.peer, local: connection.local, identity: identity,
        preservesSource: preservesSource)
      pod.setUp { await proxy.run() }
    }
    pod.keep(connection)
    return connection
  }
}
