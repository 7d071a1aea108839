import Glibc
import HTTP2
import Linux
import TLS
import Vocabulary

/// Whom a channel talks to, and how.
public struct GRPCEndpoint: Hashable, Sendable {
  public var target: GRPCTarget
  public var roots: TrustRoots
  /// A name that the server's certificate may be for instead of the target's.
  public var alternativeName: ServerName?
  public var credentials: CallCredentials
  public var profile: TLSProfile

  public init(
    target: GRPCTarget, roots: TrustRoots, alternativeName: ServerName? = nil,
    credentials: CallCredentials = CallCredentials(), profile: TLSProfile = .standard
  ) {
    self.target = target
    self.roots = roots
    self.alternativeName = alternativeName
    self.credentials = credentials
    self.profile = profile
  }
}

/// Bounds of a channel.
public struct GRPCLimits: Equatable, Sendable {
  /// Bytes of one message taken (xds.md §1).
  public var largestMessage = 200 << 20
  /// Time a TCP connect to one address may take.
  public var connect = Duration.seconds(5)
  /// Time the TLS handshake may take.
  public var handshake = Duration.seconds(10)
  /// Silence before a PING, and the time its answer may take.
  public var keepAlive = HTTP2KeepAlive(interval: .seconds(30), deadline: .seconds(10))

  public init() {}
}

/// Calls to one server over one connection, which is made when it is needed and replaced when it goes away or its
/// roots change. Belongs to one event loop.
public final class GRPCChannel {
  private enum Server {
    case remote(GRPCEndpoint)
    case local(LocalEndpoint)
  }

  /// The server for people: `https://host:port` or `unix:path`.
  public let name: String
  private let server: Server
  private let limits: GRPCLimits
  private let loop: EventLoop
  private let buffers: WorkBuffers
  private var connection: HTTP2Connection?
  private var roots: FileSignature?
  private var waiting: [UInt64: (GRPCStatus?) -> Void] = [:]
  private var lastWaiter: UInt64 = 0
  private var isDialling = false
  private var isClosed = false

  public convenience init(
    _ endpoint: GRPCEndpoint, limits: GRPCLimits = GRPCLimits(), loop: EventLoop, buffers: WorkBuffers
  ) {
    self.init(.remote(endpoint), name: "\(endpoint.target)", limits: limits, loop: loop, buffers: buffers)
  }

  public convenience init(
    _ endpoint: LocalEndpoint, limits: GRPCLimits = GRPCLimits(), loop: EventLoop, buffers: WorkBuffers
  ) {
    self.init(.local(endpoint), name: "unix:\(endpoint.path)", limits: limits, loop: loop, buffers: buffers)
  }

  private init(_ server: Server, name: String, limits: GRPCLimits, loop: EventLoop, buffers: WorkBuffers) {
    self.server = server
    self.name = name
    self.limits = limits
    self.loop = loop
    self.buffers = buffers
  }

  /// Closes the connection; calls end with `UNAVAILABLE`, and no more are made.
  public func close() {
    isClosed = true
    connection?.close(.closedLocally)
    connection = nil
  }

  /// Lets calls of now run to their end on their connection; the next call makes a new one.
  public func reconnect() {
    connection?.shutDownGracefully()
    connection = nil
  }

  /// Starts a call of `path`, `/package.Service/Method`. Without a deadline it may run for ever; a deadline is the
  /// connection's too, should one have to be made. Throws ``GRPCStatus`` where no stream could be opened.
  public func call(_ path: String, deadline: ContinuousClock.Instant? = nil) async throws(GRPCStatus) -> GRPCCall {
    let connection = try await connected(by: deadline)
    let (scheme, authority) =
      switch server {
      case .remote(let endpoint): ("https", endpoint.target.authority)
      case .local: ("http", "localhost")
      }
    var fields = [(":method", "POST"), (":scheme", scheme), (":path", path), (":authority", authority)]
    if let deadline {
      let left = ContinuousClock.now.duration(to: deadline) / .milliseconds(1)
      guard left >= 1 else { throw GRPCStatus(.deadlineExceeded, "no time was left to start the call") }
      // At most eight digits may stand there.
      fields.append(("grpc-timeout", "\(Int(min(left, 99_999_999)))m"))
    }
    fields += [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-accept-encoding", "identity")]
    // Read now: a token that was renewed counts from the next call on.
    let own =
      switch server {
      case .remote(let endpoint): try endpoint.credentials.fields()
      case .local(let endpoint): endpoint.headers
      }
    fields += own.map { ($0.name, $0.value) }
    let stream: HTTP2Stream
    do throws(HTTP2Error) { stream = try connection.open(HTTP2Headers(fields)) } catch {
      throw GRPCStatus(.unavailable, error.summary)
    }
    return GRPCCall(stream, largestMessage: limits.largestMessage, deadline: deadline, loop: loop)
  }

  /// Sends one message and returns the one that answers it. Throws ``GRPCStatus``, also where the server ends well
  /// with none or several.
  public func unary(
    _ path: String, _ message: [UInt8], deadline: ContinuousClock.Instant
  ) async throws(GRPCStatus) -> [UInt8] {
    let call = try await call(path, deadline: deadline)
    call.send(message)
    call.finishSending()
    guard let answer = try await call.receive() else {
      throw GRPCStatus(.internalError, "the server ended the call without an answer")
    }
    guard try await call.receive() == nil else {
      call.cancel()
      throw GRPCStatus(.internalError, "the server answered more than once")
    }
    return answer
  }

  // MARK: The connection

  private func connected(by deadline: ContinuousClock.Instant?) async throws(GRPCStatus) -> HTTP2Connection {
    while true {
      if isClosed { throw GRPCStatus(.unavailable, "the channel is closed") }
      if let connection, connection.closed == nil, !connection.isDraining {
        if rootsSignature == roots { return connection }
        // Whom we trust has changed: nothing new goes over what the old roots vouched for.
        reconnect()
      }
      if let failure = await dialEnds(by: deadline) { throw failure }
    }
  }

  /// Suspends until a connection was made, by whomever it was asked for, or could not be. A deadline ends the wait and not
  /// the making: the next call is glad of it.
  private func dialEnds(by deadline: ContinuousClock.Instant?) async -> GRPCStatus? {
    await withUnsafeContinuation { continuation in
      lastWaiter += 1
      let key = lastWaiter
      let timer = deadline.map { deadline in
        loop.schedule(at: deadline) { [self] in
          let status = GRPCStatus(.deadlineExceeded, "\(name): no connection was made in time")
          waiting.removeValue(forKey: key)?(status)
        }
      }
      waiting[key] = {
        timer?.cancel()
        continuation.resume(returning: $0)
      }
      guard !isDialling else { return }
      isDialling = true
      loop.spawn { [self] in await makeConnection() }
    }
  }

  private func makeConnection() async {
    let result: Result<HTTP2Connection, GRPCStatus>
    do throws(GRPCStatus) { result = .success(try await dial()) } catch { result = .failure(error) }
    isDialling = false
    var failure: GRPCStatus?
    switch result {
    case .success(let made) where isClosed: made.close(.closedLocally)
    case .success(let made): connection = made
    case .failure(let error): failure = error
    }
    let waiters = waiting
    waiting = [:]
    for waiter in waiters.values { waiter(failure) }
  }

  private var rootsSignature: FileSignature? {
    if case .remote(let endpoint) = server { endpoint.roots.signature } else { nil }
  }

  private func dial() async throws(GRPCStatus) -> HTTP2Connection {
    roots = rootsSignature
    switch server {
    case .remote(let endpoint): return try await dial(endpoint)
    case .local(let endpoint): return try await dial(endpoint)
    }
  }

  private func dial(_ endpoint: LocalEndpoint) async throws(GRPCStatus) -> HTTP2Connection {
    let socket: SharedDescriptor
    do throws(SystemError) { socket = try endpoint.connect() } catch {
      throw GRPCStatus(.unavailable, "\(name): \(error.reason)")
    }
    let connection: HTTP2Connection
    do throws(HTTP2ConnectionError) {
      connection = try HTTP2Connection(
        role: .client, plaintext: socket, place: SocketAddress(.any(.v4), 0), settings: .serviceClient,
        keepAlive: limits.keepAlive, loop: loop, buffers: buffers)
      try await connection.establish(until: .now + limits.handshake)
    } catch { throw GRPCStatus(.unavailable, "\(name): \(error.summary)") }
    releaseWhenIdle(connection)
    return connection
  }

  private func dial(_ endpoint: GRPCEndpoint) async throws(GRPCStatus) -> HTTP2Connection {
    let trust = try endpoint.roots.context(endpoint.profile)
    let addresses: [IPAddress] =
      switch endpoint.target.host {
      case .ip(let address): [address]
      case .dns(let host): try await resolve(host)
      }
    var failure = GRPCStatus(.unavailable, "\(endpoint.target) has no address")
    for address in addresses {
      do throws(GRPCStatus) {
        return try await dial(endpoint, SocketAddress(address, endpoint.target.port), trust)
      } catch { failure = error }
    }
    throw failure
  }

  private func resolve(_ host: String) async throws(GRPCStatus) -> [IPAddress] {
    do throws(HostResolutionError) { return try await HostResolver.addresses(of: host) } catch {
      throw GRPCStatus(.unavailable, error.summary)
    }
  }

  private func dial(
    _ endpoint: GRPCEndpoint, _ address: SocketAddress, _ trust: ServerTrustContext
  ) async throws(GRPCStatus) -> HTTP2Connection {
    let socket: SharedDescriptor
    do throws(WaitError) { socket = try await connect(address) } catch {
      let reason = error == .deadlineExceeded ? "connect \(address): no answer in time" : error.summary
      throw GRPCStatus(.unavailable, "\(endpoint.target): \(reason)")
    }
    do throws(HTTP2ConnectionError) {
      let ssl: OpaquePointer
      do throws(TLSError) {
        ssl = try trust.makeSSL(server: endpoint.target.host, alternative: endpoint.alternativeName)
      } catch { throw .tls(error) }
      let local = (try? TCPSocket.localAddress(socket.raw)) ?? SocketAddress(.any(address.ip.family), 0)
      let connection = try HTTP2Connection(
        role: .client, socket: socket, peer: address, local: local, ssl: ssl, settings: .serviceClient,
        keepAlive: limits.keepAlive, loop: loop, buffers: buffers)
      try await connection.establish(until: .now + limits.handshake)
      releaseWhenIdle(connection)
      return connection
    } catch {
      throw GRPCStatus(.unavailable, "\(endpoint.target) (\(address)): \(error.summary)")
    }
  }

  /// Servers take pings without calls for abuse; a connection that is not used goes before its first.
  private func releaseWhenIdle(_ connection: HTTP2Connection) {
    var release: LoopTimer?
    let patience = limits.keepAlive.interval / 2
    connection.onIdle = { [weak connection, loop] in
      release?.cancel()
      release = loop.schedule(after: patience) {
        guard let connection, connection.streamCount == 0 else { return }
        connection.shutDownGracefully()
      }
    }
  }

  private func connect(_ address: SocketAddress) async throws(WaitError) -> SharedDescriptor {
    do throws(SystemError) {
      let family = address.ip.family
      let socket = SharedDescriptor(try TCPSocket.make(family))
      TCPSocket.setNoDelay(socket.raw)
      TCPSocket.setKeepAlive(socket.raw, TCPKeepAlive(idle: 300, interval: 75, probes: 9))
      if try TCPSocket.connect(socket.raw, family, to: address) { return socket }
      try await finishConnecting(socket.raw, address)
      return socket
    } catch {
      if error.number == ETIMEDOUT { throw .deadlineExceeded }
      throw .system(error)
    }
  }

  private func finishConnecting(_ raw: CInt, _ address: SocketAddress) async throws(SystemError) {
    do throws(WaitError) { try await loop.writable(raw, until: .now + limits.connect) } catch {
      switch error {
      case .deadlineExceeded: throw SystemError("connect", ETIMEDOUT, subject: "\(address)")
      case .system(let error): throw error
      }
    }
    if let number = TCPSocket.pendingError(raw) { throw SystemError("connect", number, subject: "\(address)") }
  }
}
