import Glibc
import Linux
import TLS
import Vocabulary

@testable import HTTP2

/// A certificate authority and two workloads it signed.
struct TestMesh: Sendable {
  let client: TLSContext
  let server: TLSContext
  let clientIdentity = SPIFFEIdentity(trustDomain: "td", namespace: "ns", serviceAccount: "client")
  let serverIdentity = SPIFFEIdentity(trustDomain: "td", namespace: "ns", serviceAccount: "server")

  init() throws {
    let now = Timestamp.now
    let rootKey = try PrivateKey.generate()
    let root = try CertificateTemplate(
      commonName: "root", isAuthority: true, notBefore: now.advanced(bySeconds: -60),
      notAfter: now.advanced(bySeconds: 3600)
    ).signed(for: rootKey)
    func leaf(_ identity: SPIFFEIdentity) throws -> WorkloadCertificate {
      let key = try PrivateKey.generate()
      let certificate = try CertificateTemplate(
        alternativeNames: [.uri(identity.description)], usages: [.clientAuthentication, .serverAuthentication],
        notBefore: now.advanced(bySeconds: -60), notAfter: now.advanced(bySeconds: 3600)
      ).signed(for: key, by: (root, rootKey))
      return try WorkloadCertificate(chain: [certificate], privateKey: key, roots: [root])
    }
    client = try TLSContext(role: .client, certificate: leaf(clientIdentity))
    server = try TLSContext(role: .server, certificate: leaf(serverIdentity))
  }
}

/// Two connections of one loop that talk to each other over a socket pair.
final class ConnectedPair {
  let client: HTTP2Connection
  let server: HTTP2Connection
  var requests: [HTTP2Stream] = []
  let loop: EventLoop
  let buffers = WorkBuffers()

  init(
    _ mesh: TestMesh, loop: EventLoop, expecting: [SPIFFEIdentity]? = nil,
    serverSettings: HTTP2Settings = .server, keepAlive: HTTP2KeepAlive = HTTP2KeepAlive()
  ) throws {
    self.loop = loop
    var pair: [CInt] = [0, 0]
    precondition(
      socketpair(
        AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0, &pair) == 0
    )
    let nowhere = SocketAddress(.loopback(.v4), 0)
    client = try HTTP2Connection(
      role: .client, socket: SharedDescriptor(Descriptor(owning: pair[0])), peer: nowhere, local: nowhere,
      ssl: mesh.client.makeSSL(expecting: expecting ?? [mesh.serverIdentity]), settings: .client, keepAlive: keepAlive,
      loop: loop, buffers: buffers)
    server = try HTTP2Connection(
      role: .server, socket: SharedDescriptor(Descriptor(owning: pair[1])), peer: nowhere, local: nowhere,
      ssl: mesh.server.makeSSL(),
      settings: serverSettings, keepAlive: keepAlive, loop: loop, buffers: buffers)
    server.onRequest = { [unowned self] in requests.append($0) }
  }

  /// Both handshakes. The results are nil for success.
  func establish(within limit: Duration = .seconds(5)) async -> (
    client: HTTP2ConnectionError?, server: HTTP2ConnectionError?
  ) {
    let server = self.server
    var serverOutcome: HTTP2ConnectionError??
    loop.spawn {
      do throws(HTTP2ConnectionError) {
        try await server.establish(until: .now + limit)
        serverOutcome = .some(nil)
      } catch { serverOutcome = error }
    }
    var clientOutcome: HTTP2ConnectionError?
    do throws(HTTP2ConnectionError) { try await client.establish(until: .now + limit) } catch { clientOutcome = error }
    await loop.until { serverOutcome != nil }
    return (clientOutcome, serverOutcome ?? nil)
  }

  /// A CONNECT of the client that has arrived at the server.
  func tunnel() async throws -> (near: HTTP2Stream, far: HTTP2Stream) {
    let count = requests.count
    let near = try client.open([(":method", "CONNECT"), (":authority", "10.0.0.1:80")].headers)
    await loop.until { self.requests.count > count }
    guard let far = requests.last else { throw HTTP2Error.unavailable }
    return (near, far)
  }
}

extension [(String, String)] {
  var headers: HTTP2Headers { HTTP2Headers(self) }
}

extension EventLoop {
  /// Waits until `condition` holds, at most five seconds.
  func until(_ condition: () -> Bool) async {
    let end = ContinuousClock.now + .seconds(5)
    while !condition(), ContinuousClock.now < end { await sleep(for: .milliseconds(1)) }
  }
}

/// One end of a tunnel in memory: sends what it is given, records what it gets.
final class MemoryEnd: HTTP2StreamHandler {
  let stream: HTTP2Stream
  var received: [UInt8] = []
  var receivedCount = 0
  var sawEnd = false
  var closed: HTTP2StreamEnd?
  /// Gives credit back as bytes come. Off: a reader that has stopped.
  var drains = true
  var keepsBytes = true
  private var outgoing: [UInt8] = []
  private var offset = 0
  private var finished = false
  private(set) var supplied = 0

  init(_ stream: HTTP2Stream) {
    self.stream = stream
    stream.handler = self
  }

  func send(_ bytes: some Sequence<UInt8>) {
    outgoing.append(contentsOf: bytes)
    stream.resumeSending()
  }

  func finish() {
    finished = true
    stream.resumeSending()
  }

  func streamSupply(_ room: UnsafeMutableRawBufferPointer) -> HTTP2Supply {
    let count = min(room.count, outgoing.count - offset)
    guard count > 0 else { return finished ? .end : .nothingYet }
    outgoing.withUnsafeBytes { room.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + count])) }
    offset += count
    supplied += count
    return .bytes(count)
  }

  func streamReceived(_ chunk: UnsafeRawBufferPointer) {
    if keepsBytes { received.append(contentsOf: chunk) }
    receivedCount += chunk.count
    if drains { stream.consume(chunk.count) }
  }

  func streamReceivedEnd() { sawEnd = true }
  func streamRoundEnded() {}
  func streamClosed(_ end: HTTP2StreamEnd) { closed = end }
}

/// A loop that ends with the test; `body` runs on it.
func onLoop<Result: Sendable>(_ body: @escaping @Sendable (EventLoop) async throws -> Result) async throws -> Result {
  let loop = try EventLoop(name: "test")
  try loop.start()
  defer {
    loop.stop()
    loop.join()
  }
  return try await withCheckedThrowingContinuation { continuation in
    loop.spawn {
      do { continuation.resume(returning: try await body(loop)) } catch { continuation.resume(throwing: error) }
    }
  }
}
