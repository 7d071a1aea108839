import Linux
import TestSupport
import Testing
import Vocabulary

/// A service whose only endpoint is on another network, reached through a gateway of this one: the gateway's own proxy
/// takes the outer tunnel, and a relay behind it copies what is inside to the endpoint's port 15008.
@Suite("A service of another network", .requires(.root, .command("ip")))
struct GatewayTests {
  private struct Scene {
    let mesh: MeshFixture
    let client: MeshPod
    let server: MeshPod
    let gateway: MeshPod
    let relay: GatewayRelay
    let address: SocketAddress

    func connect() throws -> TCPConnection { try TCPClient(in: client.pod).connect(to: address) }
  }

  private func withScene(
    names: [String] = ["spiffe://cluster.local/ns/demo/sa/server"], relayedTo port: UInt16 = 15008,
    _ body: (Scene) async throws -> Void
  ) async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let gateway = try await mesh.pod("gateway", on: mesh.left)
      try #require(try mesh.right.ztunnel.terminate(grace: .seconds(10)) == 0)
      try mesh.startZtunnel(on: mesh.right, ["NETWORK": "net2"])
      try #require(mesh.right.agent.hasSentSnapshots(2))
      let list = names.map { "\"\($0)\"" }.joined(separator: ", ")
      try mesh.amend(
        fields: [
          "server": [
            "network: net2", "clusterId: far",
            "networkGateway: {destination: \"/\(gateway.pod.address(.v4))\", hboneMtlsPort: 15008}",
          ],
          "gateway": ["applicationTunnel: {protocol: NONE, port: 7000}"],
        ],
        services: [
          mesh.serviceEntry(
            "shop", vip: "10.96.0.10", ports: "80: 8080", endpoints: ["server"], fields: ["subjectAltNames: [\(list)]"])
        ])
      let relay = try GatewayRelay(
        in: gateway.pod, port: 7000, to: server.address(port: port), from: mesh.left.node)
      defer { relay.stop() }
      let address = SocketAddress(try #require(IPAddress("10.96.0.10")), 80)
      try await body(
        Scene(mesh: mesh, client: client, server: server, gateway: gateway, relay: relay, address: address))
    }
  }

  @Test("is reached by a tunnel in a tunnel, and the log names who is at its end")
  func delivered() async throws {
    try await withScene { scene in
      let echo = try TCPServer(in: scene.server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let connection = try scene.connect()
      #expect(try connection.exchange("hello", timeout: .seconds(10)) == "hello")
      try connection.finishSending()
      #expect(try connection.receiveToEnd().isEmpty)
      let out = try #require(try scene.mesh.left.ztunnel.waitForLine("complete", "outbound"))
      #expect(out.contains("dst.addr=\(scene.gateway.address(port: 15008))"))
      #expect(out.contains("dst.hbone_addr=shop.demo.svc.cluster.local:80"))
      #expect(out.contains("dst.identity=\"\(scene.server.identity)\""))
      #expect(out.contains("dst.workload=\"server\"") && out.contains("dst.cluster=\"far\""))
      #expect(out.contains("bytes_sent=5 bytes_recv=5") && !out.contains("error="))
      let outer = try #require(
        try scene.mesh.left.ztunnel.waitForLine("complete", "inbound", "dst.workload=\"gateway\""))
      #expect(outer.contains("src.identity=\"\(scene.client.identity)\""))
      let inner = try #require(try scene.mesh.right.ztunnel.waitForLine("complete", "inbound"))
      #expect(inner.contains("src.identity=\"\(scene.client.identity)\""))
      #expect(inner.contains("src.workload=\"client\""), "by what the request says, not by the gateway's address")
    }
  }

  @Test("gets much data both ways, and each side's end alone")
  func bulk() async throws {
    try await withScene { scene in
      let echo = try TCPServer(in: scene.server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let connection = try scene.connect()
      try connection.echoPattern(20 << 20)
      try connection.finishSending()
      #expect(try connection.receiveToEnd().isEmpty)
      #expect(
        try scene.mesh.left.ztunnel.waitForLine(
          "complete", "outbound", "bytes_sent=20971520 bytes_recv=20971520") != nil)
    }
  }

  @Test("gets a tunnel of its own for each connection, over one to the gateway")
  func notPooled() async throws {
    try await withScene { scene in
      let echo = try TCPServer(in: scene.server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let first = try scene.connect()
      #expect(try first.exchange("one") == "one")
      let connections = try (0..<8).map { _ in try scene.connect() }
      for connection in connections { #expect(try connection.exchange("hello") == "hello") }
      #expect(scene.relay.count == 9)
      let toGateway = try scene.client.pod.establishedConnections("dport = :15008")
      #expect(toGateway <= 2, "at most one a worker")
      for connection in connections + [first] { try connection.finishSending() }
      // Its inner tunnels end with their connections.
      #expect(
        try eventually(within: .seconds(10)) { try scene.server.pod.establishedConnections("sport = :15008") == 0 })
    }
  }

  @Test("passes resets on, in both directions")
  func resets() async throws {
    try await withScene { scene in
      let application = try TCPListener(in: scene.server.pod, port: 8080)
      var near: TCPConnection? = try scene.connect()
      try near?.send("x")
      var far: TCPConnection? = try application.accept()
      #expect(try far?.receive(1).count == 1)
      near?.resetOnClose()
      near = nil
      #expect(try far?.end() == .reset)

      near = try scene.connect()
      try near?.send("x")
      far = try application.accept()
      #expect(try far?.receive(1).count == 1)
      far?.resetOnClose()
      far = nil
      #expect(try near?.end() == .reset)
    }
  }

  @Test("whose far end is none of its subjects is not talked to")
  func impostor() async throws {
    try await withScene(names: ["spiffe://cluster.local/ns/demo/sa/somebody-else"]) { scene in
      let echo = try TCPServer(in: scene.server.pod, port: 8080, .echo)
      defer { echo.stop() }
      #expect(try TCPClient(in: scene.client.pod).end(of: scene.address) == .reset)
      #expect(try scene.mesh.left.ztunnel.waitForLine("INNER_TLS_PEER_WRONG_IDENTITY") != nil)
      #expect(echo.peers.isEmpty)
    }
  }

  @Test("whose gateway leads to something else than a proxy is not talked to")
  func garbage() async throws {
    try await withScene(relayedTo: 8080) { scene in
      let echo = try TCPServer(in: scene.server.pod, port: 8080, .greet("220 welcome\r\n"))
      defer { echo.stop() }
      #expect(try TCPClient(in: scene.client.pod).end(of: scene.address) == .reset)
      #expect(try scene.mesh.left.ztunnel.waitForLine("outbound", "error_code=\"INNER_TLS") != nil)
    }
  }

  @Test("whose application is away is reported as refusing, and works again when it is back")
  func refused() async throws {
    try await withScene { scene in
      #expect(try TCPClient(in: scene.client.pod).end(of: scene.address) == .reset)
      let line = try #require(try scene.mesh.left.ztunnel.waitForLine("PEER_REFUSED"))
      #expect(line.contains("http status: 503"))
      let echo = try TCPServer(in: scene.server.pod, port: 8080, .echo)
      defer { echo.stop() }
      #expect(try scene.connect().exchange("hello") == "hello")
    }
  }

  @Test("whose gateway is away is refused")
  func gatewayGone() async throws {
    try await withScene { scene in
      try await scene.mesh.left.agent.remove(scene.gateway, keepingRules: true)
      try #require(try scene.mesh.left.ztunnel.waitForLine("pod is no longer served", "gateway") != nil)
      #expect(try TCPClient(in: scene.client.pod).end(of: scene.address) == .reset)
      #expect(try scene.mesh.left.ztunnel.waitForLine("outbound", "HBONE_UNREACHABLE") != nil)
    }
  }
}
