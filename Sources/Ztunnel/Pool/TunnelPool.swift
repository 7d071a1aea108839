import HTTP2
import Identity
import Linux
import Mesh
import TLS
import Vocabulary

/// What one tunnel can be used for: streams to this place, as this workload, to one of these identities.
struct TunnelKey: Hashable {
  let source: SPIFFEIdentity
  let nextHop: SocketAddress
  let expected: [SPIFFEIdentity]
}

/// The HBONE connections of one pod on one worker, shared by its application connections (hbone.md §10).
///
/// Dials for one key are made one after the other, and everybody who waits learns a failure at once: a dead destination
/// costs its callers one time-out, not one each. A connection that was full is used again when streams have ended.
final class TunnelPool {
  private unowned let worker: Worker
  private let namespace: NetworkNamespace
  private var tunnels: [TunnelKey: [HTTP2Connection]] = [:]
  /// Tunnels inside of tunnels, each for one connection of an application.
  private var nested: [ObjectIdentifier: HTTP2Connection] = [:]
  private var dialing: [TunnelKey: [(ProxyError?) -> Void]] = [:]
  private var closed = false

  /// Time the TLS handshake may take after the TCP connect.
  private static let handshakeLimit = Duration.seconds(10)
  /// Time the answer to CONNECT may take: the far end's own connect to the application has ten seconds.
  private static let answerLimit = Duration.seconds(15)
  /// Times a request that no application has seen is tried on another connection.
  private static let mostAttempts = 3

  init(worker: Worker, namespace: NetworkNamespace) {
    self.worker = worker
    self.namespace = namespace
  }

  /// Closes every connection, and lets no new one be made.
  func close() {
    closed = true
    for connection in tunnels.values.joined() { connection.close(.closedLocally) }
    tunnels = [:]
  }

  /// All that are open, those inside of others first.
  var connections: [HTTP2Connection] { Array(nested.values) + tunnels.values.joined() }

  /// Opens a stream by CONNECT and returns it once the far end has answered 200. Throws ``ProxyError``.
  func connect(_ route: TunnelRoute, as source: Workload, _ headers: HTTP2Headers) async throws(ProxyError)
    -> HTTP2Stream
  {
    let key = TunnelKey(source: source.identity, nextHop: route.nextHop, expected: route.expectedIdentities)
    for attempt in 1...Self.mostAttempts {
      let (connection, isFresh): (HTTP2Connection, Bool)
      do throws(ProxyError) { (connection, isFresh) = try await self.connection(key, source) } catch {
        if case .tunnelFailed(let reason) = error, reason.isInterruption, attempt < Self.mostAttempts { continue }
        throw error
      }
      let stream: HTTP2Stream
      do throws(HTTP2Error) { stream = try connection.open(headers) } catch { continue }
      (isFresh ? worker.metrics.streamsOnNewTunnels : worker.metrics.streamsOnKnownTunnels).add()
      switch await answer(to: stream) {
      case .accepted: return stream
      // Not processed, says the far end (RFC 9113 §8.7).
      case .notProcessed: continue
      // A connection that had been idle may have been dead before it was used. No application has seen the request.
      case .connectionLost(let reason) where !isFresh || reason.isInterruption: continue
      case .connectionLost(let error): throw .tunnelFailed(error)
      case .failed(let error): throw error
      }
    }
    throw .streamRefused
  }

  /// Opens a tunnel inside a tunnel: a stream to the gateway, and in it a TLS connection of its own to whoever the
  /// gateway chooses (hbone.md §11). It is not pooled, else all traffic would stick to the first one chosen. Throws
  /// ``ProxyError``.
  func connect(
    _ route: DoubleTunnelRoute, as source: Workload, outer: HTTP2Headers, inner: HTTP2Headers
  ) async throws(ProxyError) -> (stream: HTTP2Stream, peer: SPIFFEIdentity?) {
    let carrier = try await connect(route.outer, as: source, outer)
    let connection: HTTP2Connection
    do throws(ProxyError) {
      let credentials = try await worker.credentials(of: source)
      let ssl: OpaquePointer
      do throws(TLSError) {
        ssl = try credentials.context(.client).makeSSL(expecting: route.innerExpectedIdentities)
      } catch { throw .tls(error) }
      let local = SocketAddress(.any(route.outer.nextHop.ip.family), 0)
      do throws(HTTP2ConnectionError) {
        connection = try HTTP2Connection(
          role: .client, over: carrier, peer: route.outer.nextHop, local: local, ssl: ssl,
          settings: worker.clientSettings, loop: worker.loop, buffers: worker.buffers)
      } catch { throw .innerTunnelFailed(error) }
    } catch {
      carrier.reset(.cancel)
      throw error
    }
    do throws(HTTP2ConnectionError) { try await connection.establish(until: .now + Self.handshakeLimit) } catch {
      throw .innerTunnelFailed(error)
    }
    let number = ObjectIdentifier(connection)
    nested[number] = connection
    connection.onClose = { [weak self] _ in self?.nested[number] = nil }
    guard !worker.closeIfRevoked(connection) else { throw .innerTunnelFailed(.peerRevoked) }
    connection.onIdle = { [weak connection, loop = worker.loop] in
      // Not from inside the session that reports it.
      loop.afterEvents { connection?.shutDownGracefully() }
    }
    let stream: HTTP2Stream
    do throws(HTTP2Error) { stream = try connection.open(inner) } catch {
      connection.close(.closedLocally)
      throw .innerTunnelFailed(.http2(error))
    }
    switch await answer(to: stream) {
    case .accepted: return (stream, connection.peerIdentity)
    case .notProcessed: throw .streamRefused
    case .connectionLost(let error): throw .innerTunnelFailed(error)
    case .failed(let error): throw error
    }
  }

  /// Adds what the pool holds now.
  func report(_ report: inout WorkerReport) {
    report.poolDialing += dialing.count
    for connection in tunnels.values.joined() {
      if connection.isDraining { report.poolDraining += 1 } else { report.poolTunnels += 1 }
      report.poolStreams += connection.streamCount
    }
  }

  private enum Answer {
    case accepted
    case notProcessed
    case connectionLost(HTTP2ConnectionError)
    case failed(ProxyError)
  }

  /// What the far end says to CONNECT. The stream is over unless it accepts.
  private func answer(to stream: HTTP2Stream) async -> Answer {
    var timedOut = false
    let timer = worker.loop.schedule(after: Self.answerLimit) {
      timedOut = true
      stream.reset(.cancel)
    }
    let start = ContinuousClock.now
    let end = await stream.waitForResponse()
    timer.cancel()
    let isAccepted = end == nil && stream.headers.status == 200
    (isAccepted ? worker.metrics.requestsAccepted : worker.metrics.requestsFailed).observe(.now - start)
    if timedOut { return .failed(.connectTimeout(seconds: Self.answerLimit.components.seconds)) }
    switch end {
    case nil:
      guard let status = stream.headers.status, status == 200 else {
        stream.reset(.cancel)
        return .failed(.status(stream.headers.status ?? 0))
      }
      return .accepted
    case .reset(.refusedStream): return .notProcessed
    case .reset(let code): return .failed(.connectAborted("CONNECT was reset: \(code)"))
    case .complete: return .failed(.connectAborted("CONNECT was not answered"))
    case .connectionLost(let error): return .connectionLost(error)
    }
  }

  // MARK: Connections

  private func connection(_ key: TunnelKey, _ source: Workload) async throws(ProxyError)
    -> (HTTP2Connection, isFresh: Bool)
  {
    while true {
      if closed { throw .drained }
      if let connection = tunnels[key]?.first(where: hasRoom) { return (connection, false) }
      if dialing[key] != nil {
        if let failure = await dialEnds(key) { throw failure }
        continue
      }
      dialing[key] = []
      let result: Result<HTTP2Connection, ProxyError>
      do throws(ProxyError) { result = .success(try await dial(key, source)) } catch { result = .failure(error) }
      switch result {
      case .failure(let error):
        dialEnded(key, error)
        throw error
      case .success(let connection):
        if closed { connection.close(.closedLocally) }
        if connection.hasPeerSettings || connection.closed != nil {
          dialEnded(key, nil)
        } else {
          // The first request goes out at once. The others wait until the peer has said how many streams it takes: what
          // is too much would wait unsent, and no other tunnel be opened for it.
          connection.onPeerSettings = { [weak self] in self?.dialEnded(key, nil) }
        }
        return (connection, true)
      }
    }
  }

  private func dialEnded(_ key: TunnelKey, _ failure: ProxyError?) {
    for waiter in dialing.removeValue(forKey: key) ?? [] { waiter(failure) }
  }

  private func hasRoom(_ connection: HTTP2Connection) -> Bool {
    !connection.isDraining
      && connection.streamCount < min(worker.context.configuration.poolMaxStreams, connection.streamLimit)
  }

  private func dialEnds(_ key: TunnelKey) async -> ProxyError? {
    await withUnsafeContinuation { continuation in
      dialing[key]?.append { continuation.resume(returning: $0) }
    }
  }

  private func dial(_ key: TunnelKey, _ source: Workload) async throws(ProxyError) -> HTTP2Connection {
    let credentials = try await worker.credentials(of: source)
    let ssl: OpaquePointer
    do throws(TLSError) { ssl = try credentials.context(.client).makeSSL(expecting: key.expected) } catch {
      throw .tls(error)
    }
    let socket: SharedDescriptor
    let start = ContinuousClock.now
    do throws(DialError) { socket = try await worker.dialer.connect(to: key.nextHop, in: namespace) } catch {
      throw .tunnelUnreachable(error)
    }
    let connected = ContinuousClock.now
    worker.metrics.connectsToNextHops.observe(connected - start)
    let local = (try? TCPSocket.localAddress(socket.raw)) ?? SocketAddress(.any(key.nextHop.ip.family), 0)
    let connection: HTTP2Connection
    do throws(HTTP2ConnectionError) {
      connection = try HTTP2Connection(
        role: .client, socket: socket, peer: key.nextHop, local: local, ssl: ssl, settings: worker.clientSettings,
        loop: worker.loop, buffers: worker.buffers)
    } catch { throw .tunnelFailed(error) }
    do throws(HTTP2ConnectionError) { try await connection.establish(until: .now + Self.handshakeLimit) } catch {
      throw .tunnelFailed(error)
    }
    worker.metrics.outboundHandshakes.observe(.now - connected)
    guard !worker.closeIfRevoked(connection) else { throw .tunnelFailed(.peerRevoked) }
    add(connection, key)
    return connection
  }

  private func add(_ connection: HTTP2Connection, _ key: TunnelKey) {
    tunnels[key, default: []].append(connection)
    connection.onClose = { [weak self, weak connection] _ in
      guard let self, let connection else { return }
      if !connection.hasPeerSettings { dialEnded(key, nil) }
      tunnels[key]?.removeAll { $0 === connection }
      if tunnels[key]?.isEmpty == true { tunnels[key] = nil }
    }
    var release: LoopTimer?
    let idleTimeout = worker.context.configuration.poolIdleTimeout
    connection.onIdle = { [weak connection, loop = worker.loop] in
      release?.cancel()
      release = loop.schedule(after: idleTimeout) {
        guard let connection, connection.streamCount == 0 else { return }
        connection.shutDownGracefully()
      }
    }
  }
}

extension HTTP2ConnectionError {
  /// The far end went away rather than refuse: a proxy that is being replaced closes what it has just accepted, and its
  /// successor is there already.
  fileprivate var isInterruption: Bool {
    switch self {
    case .closedByPeer, .io, .tls(.closed): true
    default: false
    }
  }
}
