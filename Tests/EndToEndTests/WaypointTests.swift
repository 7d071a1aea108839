import TestSupport
import Testing
import Vocabulary

@Suite("Traffic with a waypoint", .requires(.root, .command("ip")))
struct WaypointTests {
  enum Reference: CaseIterable { case address, hostname }

  /// The waypoint field of what `waypoint` stands in front of.
  static func field(_ reference: Reference, to waypoint: MeshPod) -> String {
    let destination =
      reference == .address ? "/\(waypoint.pod.address(.v4))" : "demo/waypoint.demo.svc.cluster.local"
    return "waypoint: {destination: \"\(destination)\", hboneMtlsPort: 15008}"
  }

  /// The service by whose host name a waypoint is found.
  static func service(of waypoints: [MeshPod], in mesh: MeshFixture) -> String {
    mesh.serviceEntry("waypoint", vip: "10.96.0.99", ports: "15008: 15008", endpoints: waypoints.map(\.name))
  }

  @Test(
    "goes to it, with what the client asked for, and from it straight to the workload", arguments: Reference.allCases)
  func workload(reference: Reference) async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let waypoint = try await mesh.pod("waypoint", on: mesh.left)
      try mesh.amend(
        fields: [
          "server": [Self.field(reference, to: waypoint)],
          "waypoint": ["applicationTunnel: {protocol: PROXY, port: 15088}"],
        ], services: [Self.service(of: [waypoint], in: mesh)])
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let application = try TCPListener(in: waypoint.pod, port: 15088)

      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      try connection.send("hello")
      let arrived = try application.accept()
      let header = try AppTunnelHeader(from: arrived)
      #expect(header.values == [0xd0: client.identity])
      let target = try #require(header.destination)
      #expect(target == server.address(port: 8080))

      let onward = try TCPClient(in: waypoint.pod).connect(to: target)
      try onward.send(try arrived.receive(5))
      try arrived.send(try onward.receive(5))
      #expect(try connection.receive(5) == Array("hello".utf8))
      for end in [connection, onward] { try end.finishSending() }
      try arrived.finishSending()
      let out = try #require(try mesh.left.ztunnel.waitForLine("complete", "outbound", "src.workload=\"client\""))
      #expect(out.contains("dst.addr=\(waypoint.address(port: 15008))"))
      #expect(out.contains("dst.hbone_addr=\(server.address(port: 8080))"))
      #expect(out.contains("dst.identity=\"\(waypoint.identity)\""))
      let direct = try #require(
        try mesh.left.ztunnel.waitForLine("complete", "outbound", "src.workload=\"waypoint\""))
      #expect(direct.contains("dst.addr=\(server.address(port: 15008))"), "a waypoint does not go to itself")
      #expect(try mesh.right.ztunnel.waitForLine("src.identity=\"\(waypoint.identity)\"", "inbound") != nil)
    }
  }

  @Test("of a service goes to the waypoint with the service's address", arguments: Reference.allCases)
  func service(reference: Reference) async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let waypoint = try await mesh.pod("waypoint", on: mesh.right)
      let shop = mesh.serviceEntry(
        "shop", vip: "10.96.0.10", ports: "80: 8080", endpoints: [server.name],
        fields: [Self.field(reference, to: waypoint)])
      try mesh.amend(
        fields: ["waypoint": ["applicationTunnel: {protocol: PROXY, port: 15088}"]],
        services: [Self.service(of: [waypoint], in: mesh), shop])
      let application = try TCPListener(in: waypoint.pod, port: 15088)
      let address = try #require(SocketAddress("10.96.0.10:80"))
      let connection = try TCPClient(in: client.pod).connect(to: address)
      try connection.send("hello")
      let arrived = try application.accept()
      #expect(try AppTunnelHeader(from: arrived).destination == address)
      #expect(try arrived.receive(5) == Array("hello".utf8))
    }
  }

  @Test("that nobody may use because nothing answers there is refused, and never goes past it")
  func unreachable() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      try mesh.amend(fields: [
        "server": ["waypoint: {destination: \"demo/none.demo.svc.cluster.local\", hboneMtlsPort: 15008}"]
      ])
      #expect(try TCPClient(in: client.pod).end(of: server.address(port: 8080)) == .reset)
      #expect(try mesh.left.ztunnel.waitForLine("ROUTE_UNKNOWN_WAYPOINT") != nil)
      #expect(echo.peers.isEmpty)
    }
  }

  @Test("goes to another of its waypoints when one does not answer")
  func otherWaypoint() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let alive = try await mesh.pod("waypoint", on: mesh.right)
      let dead = try await mesh.unservedPod("waypoint-2", on: mesh.right)
      try mesh.amend(
        fields: ["server": [Self.field(.hostname, to: alive)]], services: [Self.service(of: [alive, dead], in: mesh)])
      let echo = try TCPServer(in: alive.pod, port: 8080, .echo)
      defer { echo.stop() }
      for _ in 0..<16 {
        let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
        #expect(try connection.exchange("hello") == "hello")
      }
      // Chosen at random: one of the two is never first once in 65536 runs.
      #expect(try mesh.left.ztunnel.waitForLine("opened", "dst.workload=\"waypoint-2\"") != nil)
    }
  }

  @Test("gets the bytes at the port asked for, where the waypoint has no application tunnel")
  func withoutApplicationTunnel() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let waypoint = try await mesh.pod("waypoint", on: mesh.right)
      try mesh.amend(fields: ["server": [Self.field(.address, to: waypoint)]])
      let echo = try TCPServer(in: waypoint.pod, port: 8080, .echo)
      defer { echo.stop() }
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try connection.exchange("hello") == "hello")
      #expect(echo.peers.count == 1)
    }
  }
}
