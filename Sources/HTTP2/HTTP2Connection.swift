import Glibc
import Linux
import TLS
import Vocabulary

/// An HTTP/2 connection over TLS, on a TCP socket or on a stream of another connection; or without TLS on a socket of
/// this machine. Belongs to one event loop.
public final class HTTP2Connection {
  /// The side this process plays.
  public enum Role: Sendable { case client, server }

  public let role: Role
  /// The far end's TCP address.
  public let peer: SocketAddress
  /// The near end's TCP address.
  public let local: SocketAddress
  /// Called once for each request; servers only.
  public var onRequest: ((HTTP2Stream) -> Void)?
  /// Called once when the connection is over.
  public var onClose: ((HTTP2ConnectionError) -> Void)?
  /// Called when the last stream is gone.
  public var onIdle: (() -> Void)?
  /// The peer takes no new streams: it said so, or a ping of ours is overdue.
  public private(set) var isDraining = false
  /// The peer's SETTINGS are here, so that ``streamLimit`` is its own.
  public private(set) var hasPeerSettings = false
  /// Called once when the peer's SETTINGS are here; not when the connection ends without.
  public var onPeerSettings: (() -> Void)?
  /// Why the connection is over; nil while it lives.
  public private(set) var closed: HTTP2ConnectionError?

  private let loop: EventLoop
  private let buffers: WorkBuffers
  private let carrier: HTTP2Carrier
  private let tls: RecordLayer
  private let session: HTTP2Session
  private let keepAlive: HTTP2KeepAlive
  private var watch: Watch?
  private var established = false
  private var establishing: ((HTTP2ConnectionError?) -> Void)?
  private var settingsTimer: LoopTimer?
  private var pingTimer: LoopTimer?
  private var awaitingPong = false
  private var heardSincePing = false
  private var goAwaySent = false
  /// The last GOAWAY is out: nothing new can come, so that the end of the last stream is the end.
  private var closesWhenIdle = false
  /// Close once everything is sent: the last stream's bytes may still wait for the peer.
  private var closesWhenSent = false

  private var readable = true
  private var peerClosed = false
  private var flushScheduled = false
  private var readScheduled = false
  /// Ciphertext the kernel did not take yet. While there is any, nothing more is produced: sources see back-pressure.
  private var backlog: [UInt8] = []
  private var backlogStart = 0

  /// More unsent handshake and control ciphertext than any honest peer causes.
  private static let largestBacklog = 1 << 20
  /// More frames waiting to be sent than any honest peer causes: 200 streams, each with its answer, reset and credit,
  /// are far below.
  private static let longestQueue = 10_000
  private static let answersUnread = HTTP2ConnectionError.http2(.session("the peer does not read its answers"))

  /// Takes over what carries the connection and what protects it.
  init(
    role: Role, carrier: HTTP2Carrier, peer: SocketAddress, local: SocketAddress, records: RecordLayer,
    settings: HTTP2Settings, keepAlive: HTTP2KeepAlive, loop: EventLoop, buffers: WorkBuffers
  ) throws(HTTP2ConnectionError) {
    self.role = role
    self.peer = peer
    self.local = local
    self.loop = loop
    self.buffers = buffers
    self.keepAlive = keepAlive
    self.carrier = carrier
    tls = records
    do throws(HTTP2Error) {
      session = try HTTP2Session(role: role == .client ? .client : .server, settings: settings)
    } catch { throw .http2(error) }
    session.delegate = self
  }

  // MARK: Life

  /// Does the TLS handshake. At a client, streams may be opened when this returns, before the server's SETTINGS are
  /// here; those have `keepAlive.settingsDeadline`. Throws ``HTTP2ConnectionError``; the connection is then closed.
  public func establish(until deadline: ContinuousClock.Instant) async throws(HTTP2ConnectionError) {
    // Closed between its making and now: nothing would ever end the wait below.
    if let closed { throw closed }
    let timer = loop.schedule(at: deadline) { [weak self] in self?.close(.deadline(.tlsHandshake)) }
    let failure = await withUnsafeContinuation { (continuation: UnsafeContinuation<HTTP2ConnectionError?, Never>) in
      establishing = { continuation.resume(returning: $0) }
      do throws(SystemError) {
        switch carrier {
        case .socket(let socket, _):
          watch = try loop.watch(socket.raw, for: [.readable, .writable, .peerClosed], mode: .edge) {
            [weak self] events in self?.handle(events)
          }
        // Nobody else keeps the inner of two connections: it lives until it is closed.
        case .stream(let carrier): carrier.start { [self] in handle($0) }
        }
      } catch {
        close(.io(error))
        return
      }
      if role == .client { advanceHandshake() }
    }
    timer.cancel()
    // The handshake may have succeeded, and the connection ended before the caller's turn came.
    if let reason = failure ?? closed { throw reason }
  }

  /// The peer's first SPIFFE identity; nil before ``establish(until:)`` is done.
  public var peerIdentity: SPIFFEIdentity? { tls.peerIdentity }

  /// Whether the peer, trusted at the handshake, is on the revocation list in force now.
  public var isPeerRevoked: Bool { tls.isPeerRevoked }

  /// Streams open now.
  public var streamCount: Int { session.streams.count }

  /// Streams the peer lets this side have open at once.
  public var streamLimit: Int { session.peerStreamLimit }

  /// Opens a stream; a client's call. Throws ``HTTP2Error/unavailable`` on a draining connection.
  public func open(_ headers: HTTP2Headers) throws(HTTP2Error) -> HTTP2Stream {
    guard established, closed == nil, !isDraining else { throw .unavailable }
    return try session.submitRequest(headers)
  }

  /// Lets the streams of now, and those already on their way, run to their end, takes no new ones, then closes.
  public func shutDownGracefully() {
    guard closed == nil, !goAwaySent else { return }
    goAwaySent = true
    isDraining = true
    guard established else { return close(.closedLocally) }
    guard role == .server else {
      submitLastGoAway()
      return
    }
    session.submitShutdownNotice()
    // The notice's round trip: requests sent before the peer read it arrive within it and are still served.
    _ = loop.schedule(after: .seconds(1)) { [weak self] in
      guard let self, closed == nil else { return }
      submitLastGoAway()
    }
  }

  private func submitLastGoAway() {
    closesWhenIdle = true
    session.submitGoAway(.noError)
    closeWhenIdle()
  }

  private func closeWhenIdle() {
    guard session.streams.isEmpty else { return }
    closesWhenSent = true
    flush()
  }

  /// Closes at once, but after what is queued, such as the notice of the end, as far as the peer takes it now. Not to be
  /// called from one of the connection's own calls.
  public func closeAfterSending() {
    _ = sendQueued()
    close(.closedLocally)
  }

  /// Closes at once; streams end with `reason`. Calling it again has no effect.
  public func close(_ reason: HTTP2ConnectionError) {
    guard closed == nil else { return }
    closed = reason
    isDraining = true
    settingsTimer?.cancel()
    pingTimer?.cancel()
    if established, backlog.isEmpty, reason != .closedByPeer {
      tls.lendOutput(buffers.cipherOut)
      tls.close()
      _ = transmit()
      tls.returnBuffers()
    }
    watch?.cancel()
    watch = nil
    backlog = []
    carrier.close()
    let waiting = establishing
    establishing = nil
    session.closeAll(reason)
    waiting?(reason)
    let notify = onClose
    onClose = nil
    onPeerSettings = nil
    onRequest = nil
    onIdle = nil
    notify?(reason)
  }

  // MARK: Events

  private func handle(_ events: ReadyEvents) {
    if !events.isDisjoint(with: [.readable, .peerClosed, .hangUp, .error]) {
      readable = true
      if !events.isDisjoint(with: [.peerClosed, .hangUp, .error]) { peerClosed = true }
      read()
    }
    if events.contains(.writable), closed == nil { flush() }
  }

  /// Reads once, as `sendQueued` writes once; then other connections of the loop go first. That is a quarter of a megabyte
  /// at most: more at once saves nothing, and a quiet pod's bytes would wait behind it.
  private func read() {
    if readable, closed == nil {
      switch carrier.read(into: buffers.cipherIn) {
      case .bytes(let count):
        // With edge triggering a short read has emptied the socket, unless its end is still to be read.
        if count < buffers.cipherIn.count, !peerClosed { readable = false }
        heardSincePing = true
        process(UnsafeRawBufferPointer(rebasing: buffers.cipherIn[..<count]))
      case .ended:
        readable = false
        tls.endInput()
        process(UnsafeRawBufferPointer(rebasing: buffers.cipherIn[..<0]))
        close(.closedByPeer)
      case .wouldBlock: readable = false
      case .failed(let error):
        readable = false
        close(error)
      }
      if readable, closed == nil { scheduleRead() }
    }
    if closed == nil { flush() }
  }

  private func scheduleRead() {
    guard !readScheduled else { return }
    readScheduled = true
    loop.afterEvents { [weak self] in
      guard let self else { return }
      readScheduled = false
      read()
    }
  }

  private func process(_ cipher: UnsafeRawBufferPointer) {
    tls.lendInput(cipher)
    tls.lendOutput(buffers.cipherOut)
    defer { tls.returnBuffers() }
    do {
      if !established {
        guard try handshakeStep() else { return }
      }
      var more = true
      var ended = false
      while more, closed == nil {
        var filled = 0
        // A record's plaintext is at most 16 KiB.
        fill: while filled + (16 << 10) <= buffers.plainIn.count {
          switch try tls.read(into: UnsafeMutableRawBufferPointer(rebasing: buffers.plainIn[filled...])) {
          case .done(let count): filled += count
          case .needsInput, .needsOutput:
            more = false
            break fill
          case .ended:
            ended = true
            more = false
            break fill
          }
        }
        do throws(HTTP2Error) {
          try session.receive(UnsafeRawBufferPointer(rebasing: buffers.plainIn[..<filled]))
        } catch {
          fail(.http2(error))
          return
        }
      }
      if closed == nil { _ = transmit() }
      // Nothing is produced while the socket is full, but each frame that comes in may ask for another to go out.
      if closed == nil, session.queuedFrames > Self.longestQueue { close(Self.answersUnread) }
      // Whatever follows close_notify is not for us, also when the TCP connection stays open.
      if closed == nil, ended { close(.closedByPeer) }
    } catch {
      // The alert that tells the peer why is in the output.
      _ = transmit()
      fail(.tls(error))
    }
  }

  // MARK: Handshake

  private func advanceHandshake() {
    tls.lendOutput(buffers.cipherOut)
    defer { tls.returnBuffers() }
    do throws(TLSError) { _ = try handshakeStep() } catch { fail(.tls(error)) }
  }

  /// True once the handshake is complete.
  private func handshakeStep() throws(TLSError) -> Bool {
    let step = try tls.handshake()
    guard transmit(), case .done = step else { return false }
    established = true
    settingsTimer = loop.schedule(after: keepAlive.settingsDeadline) { [weak self] in
      self?.close(.deadline(.settings))
    }
    scheduleFlush()
    schedulePing()
    let waiting = establishing
    establishing = nil
    waiting?(nil)
    return true
  }

  private func fail(_ error: HTTP2ConnectionError) {
    if closed == nil, established, case .http2 = error {
      // nghttp2 has queued the GOAWAY that names the error.
      _ = sendQueued()
    }
    close(error)
  }

  // MARK: Sending

  private func scheduleFlush() {
    guard !flushScheduled else { return }
    flushScheduled = true
    loop.afterEvents { [weak self] in
      guard let self else { return }
      flushScheduled = false
      flush()
    }
  }

  /// Sends what there is, and closes a connection that has nothing left to say or to hear.
  private func flush() {
    guard sendQueued() else { return }
    if !session.isAlive {
      close(session.complaint.map { .http2(.session($0)) } ?? .closedLocally)
    } else if closesWhenSent, session.streams.isEmpty {
      close(.closedLocally)
    }
  }

  /// Sends what there is, as far as the peer takes it and one write goes. True when nothing is left on an open connection,
  /// so that whatever comes next announces itself.
  private func sendQueued() -> Bool {
    guard closed == nil, sendBacklog(), established else { return false }
    let count: Int
    do throws(HTTP2Error) { count = try session.produce(into: buffers.plainOut) } catch {
      close(.http2(error))
      return false
    }
    guard closed == nil else { return false }
    if count == 0 { return true }
    do throws(TLSError) { try encrypt(UnsafeRawBufferPointer(rebasing: buffers.plainOut[..<count])) } catch {
      close(.tls(error))
      return false
    }
    guard closed == nil, backlog.isEmpty else { return false }
    guard session.hasMoreToSend else { return true }
    scheduleFlush()
    return false
  }

  private func encrypt(_ plain: UnsafeRawBufferPointer) throws(TLSError) {
    tls.lendOutput(buffers.cipherOut)
    defer { tls.returnBuffers() }
    var offset = 0
    while offset < plain.count {
      switch try tls.write(UnsafeRawBufferPointer(rebasing: plain[offset...])) {
      case .done(let count): offset += count
      // `cipherOut` holds all of `plainOut` encrypted, so a full one means that its sizes were changed apart.
      case .needsOutput, .needsInput, .ended:
        throw .protocolViolation(reason: "no room for the records to send")
      }
    }
    _ = transmit()
  }

  /// Sends what is in the output buffer; what the kernel does not take goes to the backlog. False on failure.
  private func transmit() -> Bool {
    let count = tls.outputFilled
    guard count > 0 else { return true }
    defer { tls.lendOutput(buffers.cipherOut) }
    let cipher = UnsafeRawBufferPointer(rebasing: buffers.cipherOut[..<count])
    var sent = 0
    if backlog.isEmpty {
      switch carrier.write(cipher) {
      case .taken(let count): sent = count
      // A dead socket tells its story when it is read: what the peer sent before it closed explains more.
      case .broken:
        peerClosed = true
        readable = true
        return false
      case .failed(let error):
        close(error)
        return false
      }
    }
    if sent < count {
      backlog.append(contentsOf: cipher[sent...])
      if backlog.count - backlogStart > Self.largestBacklog {
        close(Self.answersUnread)
        return false
      }
    }
    return true
  }

  /// True when nothing is left over from earlier sends.
  private func sendBacklog() -> Bool {
    guard !backlog.isEmpty else { return true }
    switch backlog.withUnsafeBytes({ carrier.write(UnsafeRawBufferPointer(rebasing: $0[backlogStart...])) }) {
    case .taken(let count): backlogStart += count
    case .broken: close(.io(SystemError("send", EPIPE, subject: "\(peer)")))
    case .failed(let error): close(error)
    }
    guard closed == nil, backlogStart == backlog.count else { return false }
    backlog = []
    backlogStart = 0
    return true
  }

  // MARK: Keep-alive

  private func schedulePing() {
    pingTimer = loop.schedule(after: keepAlive.interval) { [weak self] in self?.pingIfSilent() }
  }

  private func pingIfSilent() {
    guard closed == nil else { return }
    // Whatever was heard proves as much as an answer would.
    if heardSincePing {
      heardSincePing = false
      schedulePing()
      return
    }
    awaitingPong = true
    session.submitPing()
    pingTimer = loop.schedule(after: keepAlive.deadline) { [weak self] in
      guard let self else { return }
      if heardSincePing {
        awaitingPong = false
        heardSincePing = false
        schedulePing()
      } else {
        close(.deadline(.ping))
      }
    }
  }
}

extension HTTP2Connection: HTTP2SessionDelegate {
  func session(received request: HTTP2Stream) {
    onRequest?(request)
  }

  func sessionReceivedSettings() {
    settingsTimer?.cancel()
    settingsTimer = nil
    hasPeerSettings = true
    onPeerSettings?()
    onPeerSettings = nil
  }

  func sessionReceivedPong() {
    guard awaitingPong else { return }
    awaitingPong = false
    pingTimer?.cancel()
    heardSincePing = false
    schedulePing()
  }

  func sessionReceivedGoAway() {
    isDraining = true
  }

  func sessionNeedsFlush() {
    scheduleFlush()
  }

  func sessionBecameIdle() {
    onIdle?()
    if closesWhenIdle, closed == nil {
      loop.afterEvents { [weak self] in self?.closeWhenIdle() }
    }
  }
}
