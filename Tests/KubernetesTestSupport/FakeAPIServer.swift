import COpenSSL
import Foundation
public import HTTP2
public import Kubernetes
public import Linux
import TLS
import Vocabulary

/// An API server that answers by script. Belongs to its loop.
public final class FakeAPIServer {
  /// A request as it came in.
  public struct Request {
    public let method: String
    public let path: String
    public let query: [String: String]
    public let authorization: String?
    public let acceptsCompression: Bool
    public let body: Body
  }

  /// Filled while the request is read.
  public final class Body {
    public var bytes: [UInt8] = []
    public var text: String { String(decoding: bytes, as: UTF8.self) }
  }

  public enum Answer {
    case json(Int, String)
    /// Lines, each sent at once; the watch stays open unless `ends`.
    case watch([String], ends: Bool)
    case silence
    /// The connection breaks.
    case hangUp
  }

  /// Asked for each request, when all of it is here.
  public var answer: (Request) -> Answer = { _ in .json(404, "{}") }
  public private(set) var requests: [Request] = []
  public private(set) var watches: [Exchange] = []
  public private(set) var connectionsMade = 0

  private let loop: EventLoop
  private let buffers = WorkBuffers()
  private let context: OpaquePointer
  private let listener: SharedDescriptor
  private var watch: Watch?
  private var connections: [HTTP2Connection] = []
  public let root: String
  public let port: UInt16

  public init(on loop: EventLoop) throws {
    self.loop = loop
    let (now, rootKey, leafKey) = (Timestamp.now, try PrivateKey.generate(), try PrivateKey.generate())
    let (start, end) = (now.advanced(bySeconds: -60), now.advanced(bySeconds: 3600))
    let root = try CertificateTemplate(commonName: "root", isAuthority: true, notBefore: start, notAfter: end)
      .signed(for: rootKey)
    let leaf = try CertificateTemplate(
      alternativeNames: [.dns("api.test")], usages: [.serverAuthentication], notBefore: start, notAfter: end
    ).signed(for: leafKey, by: (root, rootKey))
    self.root = try root.pem()
    context = try Self.context(certificate: leaf.pem(), key: leafKey.pem())
    listener = SharedDescriptor(try TCPSocket.make(.v4))
    try TCPSocket.bind(listener.raw, .v4, to: SocketAddress(.loopback(.v4), 0))
    try TCPSocket.listen(listener.raw, backlog: 16)
    port = try TCPSocket.localAddress(listener.raw).port
    watch = try loop.watch(listener.raw, for: .readable) { [weak self] _ in self?.accept() }
  }

  deinit { SSL_CTX_free(context) }

  public func access(token: ClusterAccess.Token? = .literal("secret")) -> ClusterAccess {
    ClusterAccess(
      server: ServerAddress(host: .ip(.loopback(.v4)), port: port), serverName: .dns("api.test"),
      roots: .pem(Array(root.utf8)), token: token)
  }

  public func stop() {
    watch?.cancel()
    dropConnections()
  }

  /// All connections break.
  public func dropConnections() {
    let dropped = connections
    connections = []
    for connection in dropped { connection.close(.closedLocally) }
  }

  private static func context(certificate: String, key: String) throws -> OpaquePointer {
    guard let context = SSL_CTX_new(TLS_server_method()) else { throw SystemError("SSL_CTX_new", ENOMEM) }
    let file = NSTemporaryDirectory() + "/api-" + UUID().uuidString
    defer { unlink(file) }
    try (certificate + key).write(toFile: file, atomically: true, encoding: .utf8)
    guard SSL_CTX_use_certificate_chain_file(context, file) == 1,
      SSL_CTX_use_PrivateKey_file(context, file, SSL_FILETYPE_PEM) == 1
    else { throw SystemError("SSL_CTX", EINVAL) }
    return context
  }

  private func accept() {
    guard let accepted = try? TCPSocket.accept(listener.raw)?.take(), let ssl = SSL_new(context) else { return }
    SSL_set_accept_state(ssl)
    connectionsMade += 1
    let nowhere = SocketAddress(.loopback(.v4), 0)
    guard
      let connection = try? HTTP2Connection(
        role: .server, socket: SharedDescriptor(accepted), peer: nowhere, local: nowhere,
        ssl: ssl, settings: .server, loop: loop, buffers: buffers)
    else { return }
    connections.append(connection)
    connection.onRequest = { [weak self] stream in self?.received(stream) }
    loop.spawn { try? await connection.establish(until: .now + .seconds(10)) }
  }

  private func received(_ stream: HTTP2Stream) {
    let exchange = Exchange(stream) { [weak self] exchange in
      guard let self else { return }
      let target = (stream.headers[":path"] ?? "").split(separator: "?", maxSplits: 1).map(String.init)
      var query: [String: String] = [:]
      for pair in target.dropFirst().first?.split(separator: "&") ?? [] {
        let parts = pair.split(separator: "=", maxSplits: 1).map { String($0).removingPercentEncoding ?? "" }
        query[parts[0]] = parts.count > 1 ? parts[1] : ""
      }
      let request = Request(
        method: stream.headers[":method"] ?? "", path: target.first ?? "", query: query,
        authorization: stream.headers["authorization"],
        acceptsCompression: stream.headers["accept-encoding"] != nil, body: exchange.body)
      requests.append(request)
      respond(exchange, answer(request))
    }
    stream.handler = exchange
  }

  private func respond(_ exchange: Exchange, _ answer: Answer) {
    switch answer {
    case .json(let status, let text):
      exchange.begin(status)
      exchange.push(text)
      exchange.end()
    case .watch(let lines, let ends):
      exchange.begin(200)
      for line in lines { exchange.push(line + "\n") }
      if ends { exchange.end() } else { watches.append(exchange) }
    case .silence: watches.append(exchange)
    case .hangUp: loop.afterEvents { [weak self] in self?.dropConnections() }
    }
  }

  /// One request and its answer.
  public final class Exchange: HTTP2StreamHandler {
    public let body = Body()
    /// What was asked for, query included.
    public var target: String { stream.headers[":path"] ?? "" }
    private let stream: HTTP2Stream
    private let complete: (Exchange) -> Void
    private var outgoing: [UInt8] = []
    private var isEnding = false
    public private(set) var isClosed = false

    init(_ stream: HTTP2Stream, complete: @escaping (Exchange) -> Void) {
      self.stream = stream
      self.complete = complete
    }

    func begin(_ status: Int) {
      stream.respond(HTTP2Headers([(":status", "\(status)"), ("content-type", "application/json")]), endStream: false)
    }

    public func push(_ text: String) {
      outgoing += text.utf8
      stream.resumeSending()
    }

    public func end() {
      isEnding = true
      stream.resumeSending()
    }

    public func streamSupply(_ room: UnsafeMutableRawBufferPointer) -> HTTP2Supply {
      guard !outgoing.isEmpty else { return isEnding ? .end : .nothingYet }
      let part = outgoing.prefix(room.count)
      part.withUnsafeBytes { room.copyMemory(from: $0) }
      outgoing.removeFirst(part.count)
      return .bytes(part.count)
    }

    public func streamReceived(_ chunk: UnsafeRawBufferPointer) {
      body.bytes += chunk
      stream.consume(chunk.count)
    }

    public func streamReceivedEnd() { complete(self) }
    public func streamRoundEnded() {}
    public func streamClosed(_ end: HTTP2StreamEnd) { isClosed = true }
  }
}

/// Objects as the API writes them.
public enum Texts {
  public static func pod(_ name: String, uid: String? = nil, version: String = "1", ip: String = "10.0.0.1") -> String {
    """
    {"metadata":{"name":"\(name)","namespace":"shop","uid":"\(uid ?? "uid-\(name)")","resourceVersion":"\(version)",\
    "labels":{"app":"\(name)"}},"spec":{"nodeName":"n1","serviceAccountName":"sa","hostNetwork":false},\
    "status":{"phase":"Running","podIP":"\(ip)","podIPs":[{"ip":"\(ip)"}]}}
    """
  }

  public static func list(_ items: [String], version: String, next: String = "") -> String {
    """
    {"kind":"PodList","metadata":{"resourceVersion":"\(version)","continue":"\(next)"},"items":[\(items.joined(separator: ","))]}
    """
  }

  public static func event(_ type: String, _ object: String) -> String { "{\"type\":\"\(type)\",\"object\":\(object)}" }

  public static func bookmark(_ version: String) -> String {
    event("BOOKMARK", "{\"kind\":\"Pod\",\"metadata\":{\"resourceVersion\":\"\(version)\"}}")
  }

  public static func gone() -> String {
    event("ERROR", "{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\",\"message\":\"too old\"}")
  }
}

/// Runs `body` as a task of a loop that ends with the test, with a fake server on it.
public func withServer(_ body: @escaping @Sendable (FakeAPIServer, EventLoop) async throws -> Void) async throws {
  let loop = try EventLoop(name: "api-test")
  try loop.start()
  defer {
    loop.stop()
    loop.join()
  }
  let failure: (any Error)? = await withCheckedContinuation { continuation in
    loop.spawn {
      do {
        let server = try FakeAPIServer(on: loop)
        try await body(server, loop)
        server.stop()
        continuation.resume(returning: nil)
      } catch { continuation.resume(returning: error) }
    }
  }
  if let failure { throw failure }
}

extension EventLoop {
  /// Waits on the loop until `condition` holds, but not for ever.
  public func until(_ condition: () -> Bool) async -> Bool {
    for _ in 0..<3000 {
      if condition() { return true }
      await sleep(for: .milliseconds(5))
    }
    return condition()
  }
}
