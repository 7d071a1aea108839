public import Linux
import Synchronization
public import Vocabulary

/// What a server has done.
public struct HTTPServerCounts: Sendable, Equatable {
  /// Connections open now.
  public internal(set) var connections = 0
  public internal(set) var requests: UInt64 = 0
  /// Connections that were answered 503 because there were too many.
  public internal(set) var turnedAway: UInt64 = 0
  /// Connections that sent something that is no request, or did not send one in time.
  public internal(set) var refused: UInt64 = 0
}

/// An HTTP/1.1 server for few and mostly friendly clients: admin, metrics, readiness, a local control socket. What comes
/// in is held to be hostile all the same: sizes, numbers and times have bounds (observability.md §5).
///
/// Everything runs on one event loop. A handler that has to ask another thread suspends; others are served meanwhile.
/// Methods are safe from any thread.
public final class HTTPServer: Sendable {
  /// Answers a request. Runs on the server's loop.
  public typealias Handler = @Sendable (HTTPRequest) async -> HTTPResponse

  private let loop: EventLoop
  // Used on `loop` only.
  nonisolated(unsafe) private let core: ServerCore

  /// A server that listens nowhere yet. `loop` must run, or be started, and outlive the server.
  public init(on loop: EventLoop, limits: HTTPLimits = HTTPLimits(), handler: @escaping Handler) {
    self.loop = loop
    core = ServerCore(loop: loop, limits: limits, handler: handler)
  }

  /// Listens, with what it was made for: the address it got, nil for a unix socket. May be called several times.
  /// Connections are accepted when the loop comes to it. Throws ``HTTPServerError``.
  @discardableResult
  public func listen(on endpoint: HTTPEndpoint) throws(HTTPServerError) -> SocketAddress? {
    let listener = try Listener(endpoint)
    loop.spawn { [core] in core.accept(from: listener) }
    return listener.address
  }

  /// Accepts no more, closes idle connections, and returns when the requests under way have been answered; those that
  /// have not after `limit` are cut. Endless bodies end at once.
  public func stop(within limit: Duration) async {
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      loop.spawn { [core] in
        await core.stop(within: limit)
        continuation.resume()
      }
    }
  }

  public var counts: HTTPServerCounts { core.counts.withLock { $0 } }
}

/// What of a server belongs to its loop.
final class ServerCore {
  let loop: EventLoop
  let limits: HTTPLimits
  let handler: HTTPServer.Handler
  let counts = Mutex(HTTPServerCounts())
  private(set) var isStopping = false
  private var listeners: [Listener] = []
  private var watches: [Watch] = []
  private var pause: LoopTimer?
  private var connections: [ObjectIdentifier: HTTPConnection] = [:]
  private var whenEmpty: (() -> Void)?

  /// Rest after the system had no descriptor or memory left.
  private static let rest = Duration.milliseconds(100)
  /// Connections taken in one turn.
  private static let turn = 64

  init(loop: EventLoop, limits: HTTPLimits, handler: @escaping HTTPServer.Handler) {
    self.loop = loop
    self.limits = limits
    self.handler = handler
  }

  func accept(from listener: Listener) {
    guard !isStopping else { return listener.removeFile() }
    listeners.append(listener)
    watch(listener)
  }

  private func watch(_ listener: Listener) {
    do throws(SystemError) {
      watches.append(try loop.watch(listener.socket.raw, for: .readable) { [unowned self] _ in take(from: listener) })
    } catch { restAndRetry() }
  }

  private func take(from listener: Listener) {
    for _ in 0..<Self.turn {
      do throws(SystemError) {
        guard let (socket, peer) = try listener.accept() else { return }
        serve(socket, peer)
      } catch {
        return restAndRetry()
      }
    }
  }

  /// A level-triggered listener that cannot be emptied would burn the processor.
  private func restAndRetry() {
    for watch in watches { watch.cancel() }
    watches = []
    pause?.cancel()
    pause = loop.schedule(after: Self.rest) { [weak self] in
      guard let self, !isStopping else { return }
      for listener in listeners { watch(listener) }
    }
  }

  private func serve(_ socket: SharedDescriptor, _ peer: HTTPPeer) {
    var isTooMany = false
    if connections.count >= limits.connections {
      let idle = connections.values.filter { $0.isIdle }.min { $0.lastUse < $1.lastUse }
      idle?.cut()
      isTooMany = idle == nil
      // One that was cut needs a turn to go; twice the limit is never passed.
      if connections.count >= 2 * limits.connections { isTooMany = true }
    }
    if isTooMany {
      counts.withLock { $0.turnedAway += 1 }
      return HTTPConnection.turnAway(socket)
    }
    let connection = HTTPConnection(socket, peer, core: self)
    let key = ObjectIdentifier(connection)
    connections[key] = connection
    counts.withLock { $0.connections += 1 }
    loop.spawn { [self] in
      await connection.run()
      connections[key] = nil
      counts.withLock { $0.connections -= 1 }
      if connections.isEmpty { whenEmpty?() }
    }
  }

  func stop(within limit: Duration) async {
    if !isStopping {
      isStopping = true
      pause?.cancel()
      for watch in watches { watch.cancel() }
      for listener in listeners { listener.removeFile() }
      (watches, listeners) = ([], [])
      for connection in Array(connections.values) { connection.stop() }
    }
    guard !connections.isEmpty else { return }
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
      var isOver = false
      func finish() {
        guard !isOver else { return }
        isOver = true
        continuation.resume()
      }
      let timer = loop.schedule(after: limit) { [self] in
        for connection in Array(connections.values) { connection.cut() }
        finish()
      }
      let previous = whenEmpty
      whenEmpty = {
        previous?()
        timer.cancel()
        finish()
      }
    }
  }
}
