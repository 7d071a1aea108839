import Linux
import TestSupport
import Testing
import Vocabulary

/// Envoy is what Istio's waypoints and gateways are made of: whoever speaks HBONE must be understood by it, both ways.
@Suite("A tunnel with Envoy at the other end", .requires(.root, .command("ip"), .envoy))
struct EnvoyTests {
  /// An Envoy outside of the mesh whose port 7000 is tunnelled to `server`'s port 8080.
  private func client(
    in mesh: MeshFixture, to server: MeshPod, _ family: IPAddress.Family
  ) async throws -> (pod: MeshPod, envoy: EnvoyProcess) {
    let pod = try await mesh.pod("envoy", on: mesh.left, inMesh: false)
    let certificate = try EnvoyCertificate(
      PeerCertificate.good.issue(in: mesh, serviceAccount: "envoy"), in: mesh.directory, name: "client")
    let resources = EnvoyResources.client(
      port: 7000, to: server.address(family, port: 15008), authority: server.address(family, port: 8080),
      peer: server.spiffe, certificate)
    let envoy = try EnvoyProcess(in: pod.pod, directory: mesh.directory, name: "client", resources: resources)
    return (pod, envoy)
  }

  private func connect(_ pod: MeshPod) throws -> TCPConnection {
    try TCPClient(in: pod.pod).connect(to: SocketAddress(.loopback(.v4), 7000))
  }

  @Test("as client delivers, and is logged by its identity", arguments: [IPAddress.Family.v4, .v6])
  func client(family: IPAddress.Family) async throws {
    try await MeshFixture.with { mesh in
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let (pod, _) = try await client(in: mesh, to: server, family)
      let connection = try connect(pod)
      #expect(try connection.exchange("hello") == "hello")
      try connection.echoPattern(20 << 20)
      try connection.finishSending()
      #expect(try connection.receiveToEnd().isEmpty)
      #expect(echo.peers.map(\.ip) == [pod.pod.address(family)])
      let line = try #require(try mesh.right.ztunnel.waitForLine(containing: "connection complete"))
      #expect(line.contains("src.identity=\"spiffe://cluster.local/ns/demo/sa/envoy\""))
      #expect(line.contains("src.workload=\"envoy\""))
      #expect(line.contains("dst.hbone_addr=\(server.address(family, port: 8080))"))
      #expect(line.contains("direction=\"inbound\" bytes_sent=20971525 bytes_recv=20971525"))
      #expect(!line.contains("error="))
    }
  }

  @Test("as client passes on the end of either side alone")
  func clientHalfClose() async throws {
    try await MeshFixture.with { mesh in
      let server = try await mesh.pod("server", on: mesh.right)
      let sink = try TCPServer(in: server.pod, port: 8080, .sink)
      defer { sink.stop() }
      let connection = try connect(try await client(in: mesh, to: server, .v4).pod)
      try connection.sendPattern(20 << 20)
      try connection.finishSending()
      #expect(try connection.receiveTextToEnd() == "bytes=20971520 intact=true")
    }
  }

  @Test("as client uses one connection for many streams")
  func clientStreams() async throws {
    try await MeshFixture.with { mesh in
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let (pod, envoy) = try await client(in: mesh, to: server, .v4)
      let connections = try (0..<40).map { _ in try connect(pod) }
      for (index, connection) in connections.enumerated() {
        #expect(try connection.exchange("stream \(index)") == "stream \(index)")
      }
      #expect(try envoy.statistic("cluster.tunnel.upstream_cx_total") == 1)
      #expect(echo.peers.count == 40)
    }
  }

  @Test("as client is refused by policy with 401, and its connection stays")
  func clientDenied() async throws {
    try await MeshFixture.with { mesh in
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let (pod, envoy) = try await client(in: mesh, to: server, .v4)
      #expect(try connect(pod).exchange("allowed") == "allowed")
      try mesh.add(policy: HostileScene.denial(of: "envoy"))
      _ = try? connect(pod).receiveToEnd()
      let line = try #require(try mesh.right.ztunnel.waitForLine(containing: "error_code=\"POLICY_DENIED\""))
      #expect(line.contains("src.identity=\"spiffe://cluster.local/ns/demo/sa/envoy\""))
      #expect(line.contains("explicitly denied by: demo/no-envoy"))
      try mesh.removePolicies()
      #expect(try connect(pod).exchange("again") == "again")
      #expect(envoy.process.waitForLine(containing: #"{"key":":status","value":"401"}"#) != nil, "Envoy is told why")
      #expect(try envoy.statistic("cluster.tunnel.upstream_cx_total") == 1)
      #expect(try envoy.statistic("cluster.tunnel.upstream_cx_protocol_error") == 0)
    }
  }

  /// A workload of the mesh whose tunnels Envoy takes, with `behaviour` behind it.
  private func withServer(
    _ family: IPAddress.Family, _ behaviour: TCPServer.Behaviour, as serviceAccount: String = "server",
    _ body: (MeshFixture, _ client: MeshPod, _ server: MeshPod, EnvoyProcess) throws -> Void
  ) async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.unservedPod("server", on: mesh.right)
      let application = try TCPServer(in: server.pod, port: 8080, behaviour)
      defer { application.stop() }
      let certificate = try EnvoyCertificate(
        PeerCertificate.good.issue(in: mesh, serviceAccount: serviceAccount), in: mesh.directory, name: "server")
      let envoy = try EnvoyProcess(
        in: server.pod, directory: mesh.directory, name: "server",
        resources: EnvoyResources.server(
          on: server.pod.address(family), to: SocketAddress(.loopback(.v4), 8080), certificate))
      try body(mesh, client, server, envoy)
    }
  }

  @Test("as server gets what it needs to know, and delivers", arguments: [IPAddress.Family.v4, .v6])
  func server(family: IPAddress.Family) async throws {
    try await withServer(family, .echo) { mesh, client, server, envoy in
      let connection = try TCPClient(in: client.pod).connect(to: server.address(family, port: 8080))
      let local = connection.localAddress
      #expect(try connection.exchange("hello") == "hello")
      try connection.echoPattern(20 << 20)
      try connection.finishSending()
      #expect(try connection.receiveToEnd().isEmpty)
      let line = try #require(try mesh.left.ztunnel.waitForLine(containing: "connection complete"))
      #expect(line.contains("dst.identity=\"\(server.identity)\""))
      #expect(line.contains("dst.hbone_addr=\(server.address(family, port: 8080))"))
      #expect(line.contains("direction=\"outbound\" bytes_sent=20971525 bytes_recv=20971525"))
      #expect(!line.contains("error="))
      let seen = try #require(envoy.process.waitForLine(containing: "peer="), "Envoy logs the request")
      #expect(seen.contains("peer=\(client.identity) "))
      #expect(seen.contains("authority=\(server.address(family, port: 8080)) status=200"))
      #expect(seen.contains("k8s.namespace.name=demo"))
      #expect(seen.contains("service.name=client"))
      #expect(seen.contains("forwarded=for=\"\(try #require(local))\" "))
      #expect(seen.contains("traceparent=00-"))
    }
  }

  @Test("as server passes on the client's end alone")
  func serverHalfClose() async throws {
    try await withServer(.v4, .sink) { _, client, server, _ in
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      try connection.sendPattern(20 << 20)
      try connection.finishSending()
      #expect(try connection.receiveTextToEnd() == "bytes=20971520 intact=true")
    }
  }

  @Test("as server with somebody else's identity is not talked to")
  func serverImpostor() async throws {
    try await withServer(.v4, .echo, as: "somebody-else") { mesh, client, server, envoy in
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try SeenEnd(of: connection) == .reset)
      #expect(try mesh.left.ztunnel.waitForLine(containing: "error_code=\"TLS_PEER_WRONG_IDENTITY\"") != nil)
      #expect(try envoy.statistic("http.tunnel.downstream_rq_total") == 0)
    }
  }

  @Test("as server that ends is reported, and the next request reaches its successor")
  func serverRestart() async throws {
    try await withServer(.v4, .echo) { mesh, client, server, envoy in
      let address = server.address(port: 8080)
      let connection = try TCPClient(in: client.pod).connect(to: address)
      #expect(try connection.exchange("one") == "one")
      let successor = try envoy.replaced()
      #expect(try SeenEnd(of: connection) == .reset)
      #expect(try mesh.left.ztunnel.waitForLine(containing: "connection complete")?.contains("error=") == true)
      #expect(try TCPClient(in: client.pod).connect(to: address).exchange("two") == "two")
      #expect(try successor.statistic("http.tunnel.downstream_rq_total") == 1)
    }
  }
}
