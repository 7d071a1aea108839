import Foundation
import HTTP2
import Linux
import TLS
import TestSupport
import Testing
import Vocabulary

/// A pod with an echo on port 8080, and a place outside of the mesh from which its port 15008 is attacked.
struct HostileScene: Sendable {
  let mesh: MeshFixture
  let attacker: MeshPod
  let server: MeshPod

  static func with(_ body: (HostileScene) async throws -> Void) async throws {
    try await MeshFixture.with { mesh in
      let attacker = try await mesh.pod("attacker", on: mesh.left, inMesh: false)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      try await body(HostileScene(mesh: mesh, attacker: attacker, server: server))
    }
  }

  var echoAddress: SocketAddress { server.address(port: 8080) }

  /// The proxy under attack.
  var ztunnel: RunningProcess { get throws { try mesh.right.ztunnel } }

  func certificate(_ kind: PeerCertificate = .good) throws -> WorkloadCertificate {
    try kind.issue(in: mesh, serviceAccount: "attacker")
  }

  /// Runs `body` with a well-behaved client of the pod.
  func withClient<Result: Sendable>(
    as kind: PeerCertificate = .good, _ body: @escaping @Sendable (HostileClient) async throws -> Result
  ) async throws -> Result {
    let certificate = try certificate(kind)
    return try await onPeerLoop { loop in
      let client = try await HostileClient.connect(from: attacker.pod, to: server, as: certificate, loop: loop)
      return try await body(client)
    }
  }

  /// A policy that denies a service account everything.
  static func denial(of serviceAccount: String) -> String {
    """
    - name: no-\(serviceAccount)
      namespace: demo
      scope: Namespace
      action: Deny
      dryRun: false
      rules: [[[{principals: [!Exact "cluster.local/ns/demo/sa/\(serviceAccount)"]}]]]
    """
  }

  /// What a good peer's text through the pod's echo comes back as.
  func echo(_ text: String) async throws -> String {
    let address = echoAddress
    return try await withClient { try await $0.echo(text, through: address) }
  }

  /// The line of a connection that failed with `code`; throws when there is none.
  @discardableResult
  func failure(_ code: String, within limit: Duration = .seconds(10)) throws -> String {
    try #require(
      try ztunnel.waitForLine(containing: "error_code=\"\(code)\"", within: limit), "the log names \(code)")
  }

  /// Resident memory of the proxy in bytes.
  func residentMemory() throws -> Int {
    let pid = try ztunnel.pid
    let fields = try String(contentsOfFile: "/proc/\(pid)/statm", encoding: .utf8).split(separator: " ")
    return try #require(fields.count > 1 ? Int(fields[1]) : nil) * 4096
  }
}

@Suite("Port 15008 of a pod", .requires(.root, .command("ip")))
struct HostileInboundTests {
  @Test(
    "refuses a peer by its certificate, and names the reason",
    arguments: [
      (PeerCertificate.ofAnotherAuthority, "TLS_PEER_UNTRUSTED"), (.expired, "TLS_PEER_EXPIRED"),
      (.ofAnotherTrustDomain, "TLS_PEER_WRONG_TRUST_DOMAIN"),
    ])
  func certificate(kind: PeerCertificate, code: String) async throws {
    try await HostileScene.with { scene in
      let address = scene.echoAddress
      // A TLS 1.3 client learns of it only after its own half of the handshake is done.
      let status = try await scene.withClient(as: kind) { try await $0.connect(address).status }
      #expect(status == nil)
      let line = try scene.failure(code)
      #expect(line.contains("connection failed"))
      #expect(line.contains("direction=\"inbound\""))
      #expect(try await scene.echo("served") == "served")
    }
  }

  @Test("refuses a peer without a certificate", .requires(.command("openssl")))
  func noCertificate() async throws {
    try await HostileScene.with { scene in
      let result = try scene.attacker.pod.run(
        [
          "openssl", "s_client", "-connect", "\(scene.server.address(port: 15008))", "-tls1_3", "-alpn", "h2",
          "-ign_eof",
        ], input: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
      #expect((result.output + result.errors).contains("certificate required"))
      try scene.failure("TLS_PEER_NO_CERTIFICATE")
    }
  }

  @Test("refuses TLS 1.2", .requires(.command("openssl")))
  func oldTLS() async throws {
    try await HostileScene.with { scene in
      let result = try scene.attacker.pod.run(
        ["openssl", "s_client", "-connect", "\(scene.server.address(port: 15008))", "-tls1_2"])
      #expect(!result.succeeded)
      try scene.failure("TLS_VERSION")
    }
  }

  @Test("says that plain HTTP is no TLS")
  func plaintext() async throws {
    try await HostileScene.with { scene in
      let client = try TCPClient(in: scene.attacker.pod).connect(to: scene.server.address(port: 15008))
      try client.send("GET / HTTP/1.1\r\nHost: server\r\n\r\n")
      // An alert may come before the end.
      let answer = try? client.receiveToEnd(timeout: .seconds(5))
      #expect((answer?.count ?? 0) < 100)
      try scene.failure("TLS_NOT_TLS")
    }
  }

  /// What is said after the handshake, and whether HTTP/2 has an answer to it.
  static let nonsense: [(bytes: [UInt8], isAnswered: Bool)] = {
    let start = HTTP2Frame.preface + HTTP2Frame.settings()
    let tooLarge: [UInt8] = [0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]
    let invalidIndex: [UInt8] = [0xff, 0xff, 0xff, 0x7f]
    return [
      (Array("this is certainly not the preface of HTTP/2".utf8), false),
      (start + HTTP2Frame.data([1], stream: 0), true),
      (start + tooLarge, true),
      (start + HTTP2Frame.make(1, flags: 4, stream: 1, invalidIndex), true),
    ]
  }()

  @Test(
    "closes a connection that speaks garbage after the handshake, and no other",
    arguments: HostileInboundTests.nonsense)
  func garbage(bytes: [UInt8], isAnswered: Bool) async throws {
    try await HostileScene.with { scene in
      let (address, certificate) = (scene.echoAddress, try scene.certificate())
      try await scene.withClient { client in
        let (stream, status) = try await client.connect(address)
        try #require(status == 200)
        let tunnel = HostileStream(stream)
        let vandal = try RawTunnel(from: scene.attacker.pod, to: scene.server, as: certificate)
        try vandal.send(bytes)
        let frames = try vandal.framesUntilClosed()
        #expect(frames.contains { $0.type == HTTP2Frame.Received.goAway } == isAnswered)
        tunnel.send("still here".utf8)
        #expect(await client.loop.eventually { tunnel.received == Array("still here".utf8) })
      }
    }
  }

  @Test("answers requests that it cannot serve with the status that says why, and keeps the connection")
  func refusals() async throws {
    try await HostileScene.with { scene in
      let (server, other) = (scene.server.pod.ipv4, scene.attacker.pod.ipv4)
      let cases: [(fields: [(String, String)], status: Int, code: String)] = [
        ([(":method", "CONNECT"), (":authority", "\(other):8080")], 400, "INBOUND_IP_MISMATCH"),
        ([(":method", "CONNECT"), (":authority", "\(server)")], 400, "INBOUND_BAD_AUTHORITY"),
        ([(":method", "CONNECT"), (":authority", "\(server):0x50")], 400, "INBOUND_BAD_AUTHORITY"),
        ([(":method", "CONNECT"), (":authority", "[::1:8080")], 400, "INBOUND_BAD_AUTHORITY"),
        ([(":method", "CONNECT"), (":authority", "unknown.demo.svc:80")], 503, "INBOUND_UNKNOWN_HOSTNAME"),
        ([(":method", "CONNECT"), (":authority", "\(server):15001")], 503, "INBOUND_SELF_CALL"),
        ([(":method", "CONNECT"), (":authority", "\(server):15006")], 503, "INBOUND_SELF_CALL"),
        ([(":method", "CONNECT"), (":authority", "\(server):15008")], 503, "INBOUND_SELF_CALL"),
        ([(":method", "CONNECT"), (":authority", "\(server):9")], 503, "APPLICATION_UNREACHABLE"),
        (
          [(":method", "GET"), (":scheme", "https"), (":authority", "\(server):8080"), (":path", "/")], 400,
          "INBOUND_METHOD_NOT_CONNECT"
        ),
      ]
      let address = scene.echoAddress
      try await scene.withClient { client in
        for refused in cases {
          let stream = try client.open(refused.fields)
          #expect(await stream.waitForResponse() == nil, "\(refused.fields)")
          #expect(stream.headers.status == refused.status, "\(refused.fields)")
          #expect(
            await client.loop.eventually { stream.end != nil },
            "the server lets go of \(refused.fields) without waiting for the client's end")
        }
        #expect(try await client.echo("after all", through: address) == "after all")
      }
      for code in Set(cases.map(\.code)) { try scene.failure(code) }
    }
  }

  @Test("refuses a peer whom policy denies with 401, and keeps nothing of what it sends")
  func denied() async throws {
    try await HostileScene.with { scene in
      try scene.mesh.add(policy: HostileScene.denial(of: "attacker"))
      let address = scene.echoAddress
      try await scene.withClient { client in
        let (stream, status) = try await client.connect(address)
        #expect(status == 401)
        let tunnel = HostileStream(stream)
        tunnel.send([UInt8](repeating: 1, count: 1 << 20))
        #expect(await client.loop.eventually { tunnel.end != nil })
      }
      let line = try scene.failure("POLICY_DENIED")
      #expect(line.contains("src.identity=\"spiffe://cluster.local/ns/demo/sa/attacker\""))
    }
  }
}
