import Glibc
import HTTP2
import Linux
import TLS
import Vocabulary

/// Requests to one API server over one connection, which is made when it is needed and replaced when it goes away or
/// the files it was made of change. Belongs to one event loop.
final class APIChannel {
  let access: ClusterAccess
  private let loop: EventLoop
  private let buffers: WorkBuffers
  private var connection: HTTP2Connection?
  private var signature: [FileSignature?] = []
  private var waiting: [(KubernetesError?) -> Void]?
  private var isClosed = false

  /// Time a TCP connect to one address may take.
  private static let connectDeadline = Duration.seconds(5)
  /// Time the TLS handshake may take.
  private static let handshakeDeadline = Duration.seconds(10)
  /// A server that is gone without a word is noticed within the sum; watches are silent for minutes otherwise.
  private static let keepAlive = HTTP2KeepAlive(interval: .seconds(15), deadline: .seconds(10))

  init(_ access: ClusterAccess, loop: EventLoop, buffers: WorkBuffers) {
    self.access = access
    self.loop = loop
    self.buffers = buffers
  }

  /// Closes the connection; requests end with an error, and no more are made.
  func close() {
    isClosed = true
    connection?.close(.closedLocally)
    connection = nil
  }

  /// Starts a request. Throws ``KubernetesError`` where none could be started.
  func start(_ request: APIRequest, deadline: ContinuousClock.Instant) async throws(KubernetesError) -> APICall {
    let authorization = try access.authorization()
    let connection = try await connected()
    var fields = [
      (":method", request.method.rawValue), (":scheme", "https"), (":path", access.server.prefix + request.target),
      (":authority", access.server.authority), ("accept", "application/json"), ("user-agent", Self.userAgent),
    ]
    if let authorization { fields.append(("authorization", authorization)) }
    if let type = request.contentType { fields.append(("content-type", type)) }
    let stream: HTTP2Stream
    do throws(HTTP2Error) { stream = try connection.open(HTTP2Headers(fields)) } catch {
      throw unreachable(error.summary)
    }
    return APICall(request, server: "\(access.server)", stream: stream, deadline: deadline, loop: loop)
  }

  private static let userAgent = "ambient/\(ProductVersion.text)"

  // MARK: The connection

  private func connected() async throws(KubernetesError) -> HTTP2Connection {
    while true {
      if isClosed { throw unreachable("the client is closed") }
      if let connection, connection.closed == nil, !connection.isDraining {
        if access.signature == signature { return connection }
        // Whom we trust, or who we are, has changed: what runs may end, nothing new goes over the old connection.
        connection.shutDownGracefully()
        self.connection = nil
      }
      if waiting != nil {
        if let failure = await dialEnds() { throw failure }
        continue
      }
      waiting = []
      let result: Result<HTTP2Connection, KubernetesError>
      do throws(KubernetesError) { result = .success(try await dial()) } catch { result = .failure(error) }
      let waiters = waiting ?? []
      waiting = nil
      var failure: KubernetesError?
      switch result {
      case .success(let made) where isClosed: made.close(.closedLocally)
      case .success(let made): connection = made
      case .failure(let error): failure = error
      }
      for waiter in waiters { waiter(failure) }
      if let failure { throw failure }
    }
  }

  private func dialEnds() async -> KubernetesError? {
    await withUnsafeContinuation { continuation in
      waiting?.append { continuation.resume(returning: $0) }
    }
  }

  private func dial() async throws(KubernetesError) -> HTTP2Connection {
    signature = access.signature
    let trust = try access.trust()
    var failure = unreachable("it has no address")
    for address in try await addresses() {
      do throws(KubernetesError) { return try await dial(SocketAddress(address, access.server.port), trust) } catch {
        failure = error
      }
    }
    throw failure
  }

  private func addresses() async throws(KubernetesError) -> [IPAddress] {
    switch access.server.host {
    case .ip(let address): return [address]
    case .dns(let host):
      do throws(HostResolutionError) { return try await HostResolver.addresses(of: host) } catch {
        throw unreachable(error.summary)
      }
    }
  }

  private func dial(
    _ address: SocketAddress, _ trust: ServerTrustContext
  ) async throws(KubernetesError) -> HTTP2Connection {
    let socket = try await connect(address)
    do throws(HTTP2ConnectionError) {
      let ssl: OpaquePointer
      do throws(TLSError) { ssl = try trust.makeSSL(server: access.serverName ?? access.server.host) } catch {
        throw .tls(error)
      }
      let local = (try? TCPSocket.localAddress(socket.raw)) ?? SocketAddress(.any(address.ip.family), 0)
      let connection = try HTTP2Connection(
        role: .client, socket: socket, peer: address, local: local, ssl: ssl, settings: .serviceClient,
        keepAlive: Self.keepAlive, loop: loop, buffers: buffers)
      try await connection.establish(until: .now + Self.handshakeDeadline)
      return connection
    } catch {
      throw unreachable("\(address): \(error.summary)")
    }
  }

  private func connect(_ address: SocketAddress) async throws(KubernetesError) -> SharedDescriptor {
    do throws(SystemError) {
      let family = address.ip.family
      let socket = SharedDescriptor(try TCPSocket.make(family))
      TCPSocket.setNoDelay(socket.raw)
      if try TCPSocket.connect(socket.raw, family, to: address) { return socket }
      do throws(WaitError) { try await loop.writable(socket.raw, until: .now + Self.connectDeadline) } catch {
        switch error {
        case .deadlineExceeded: throw SystemError("connect", ETIMEDOUT, subject: "\(address)")
        case .system(let error): throw error
        }
      }
      if let number = TCPSocket.pendingError(socket.raw) {
        throw SystemError("connect", number, subject: "\(address)")
      }
      return socket
    } catch {
      throw unreachable(error.summary)
    }
  }

  private func unreachable(_ reason: String) -> KubernetesError {
    .unreachable(server: "\(access.server)", reason: reason)
  }
}
