import Foundation
import TestSupport
import Testing
import Vocabulary

/// Istio's waypoints are Envoys: here one takes tunnels, and makes tunnels of its own to the workload behind it.
@Suite("Traffic with Envoy as its waypoint", .requires(.root, .command("ip"), .envoy))
struct WaypointEnvoyTests {
  enum Target: CaseIterable { case service, workload }

  /// Within the waypoint's pod, from its taking half to its making half.
  private static let inner: UInt16 = 7001

  /// Both halves in one configuration.
  static func resources(
    on waypoint: MeshPod, to server: MeshPod, _ certificate: EnvoyCertificate
  ) -> String {
    let taking = EnvoyResources.server(
      on: waypoint.pod.ipv4, to: SocketAddress(.loopback(.v4), Self.inner), certificate)
    let making = EnvoyResources.client(
      port: Self.inner, to: server.address(port: 15008), authority: server.address(port: 8080), peer: server.spiffe,
      certificate)
    func parts(_ text: String) -> (listeners: String, clusters: String) {
      let halves = text.components(separatedBy: "clusters:\n")
      return (halves[0].replacingOccurrences(of: "listeners:\n", with: ""), halves[1])
    }
    let (first, second) = (parts(taking), parts(making))
    return "listeners:\n\(first.listeners)\(second.listeners)clusters:\n\(first.clusters)\n\(second.clusters)"
  }

  @Test(
    "is tunnelled to it, and from it to the workload, whose policy sees the waypoint",
    arguments: Target.allCases, WaypointTests.Reference.allCases)
  func delivered(target: Target, reference: WaypointTests.Reference) async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let waypoint = try await mesh.unservedPod("waypoint", on: mesh.right)
      // Only the waypoint may come: what went past it would be refused.
      try mesh.add(MeshPolicy(name: "waypoint-only", action: .allow, matches: [MeshPolicy.from(waypoint)]))
      let field = WaypointTests.field(reference, to: waypoint)
      let shop = mesh.serviceEntry(
        "shop", vip: "10.96.0.10", ports: "80: 8080", endpoints: ["server"], fields: target == .service ? [field] : [])
      try mesh.amend(
        fields: target == .workload ? ["server": [field]] : [:],
        services: [WaypointTests.service(of: [waypoint], in: mesh), shop])
      let certificate = try EnvoyCertificate(
        PeerCertificate.good.issue(in: mesh, serviceAccount: "waypoint"), in: mesh.directory, name: "waypoint")
      let envoy = try EnvoyProcess(
        in: waypoint.pod, directory: mesh.directory, name: "waypoint",
        resources: Self.resources(on: waypoint, to: server, certificate))
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }

      let address =
        target == .service ? SocketAddress(try #require(IPAddress("10.96.0.10")), 80) : server.address(port: 8080)
      let connection = try TCPClient(in: client.pod).connect(to: address)
      #expect(try connection.exchange("hello", timeout: .seconds(20)) == "hello")
      try connection.echoPattern(4 << 20)
      try connection.finishSending()
      #expect(try connection.receiveToEnd().isEmpty)

      let out = try #require(try mesh.left.ztunnel.waitForLine("complete", "outbound"))
      #expect(out.contains("dst.addr=\(waypoint.address(port: 15008))"))
      #expect(out.contains("dst.hbone_addr=\(address)"))
      #expect(out.contains("dst.identity=\"\(waypoint.identity)\"") && !out.contains("error="))
      if target == .service { #expect(out.contains("dst.service=\"shop.demo.svc.cluster.local\"")) }
      let seen = try #require(envoy.process.waitForLine("peer=\(client.identity) ", "authority=\(address) status=200"))
      if target == .service { #expect(seen.contains(";host=shop.demo.svc.cluster.local")) }
      let arrived = try #require(try mesh.right.ztunnel.waitForLine("complete", "inbound", "dst.workload=\"server\""))
      #expect(arrived.contains("src.identity=\"\(waypoint.identity)\""))
      #expect(arrived.contains("bytes_sent=4194309 bytes_recv=4194309"))
    }
  }

  @Test("is refused while the waypoint is away, and goes on when it is back")
  func waypointAway() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let waypoint = try await mesh.unservedPod("waypoint", on: mesh.right)
      try mesh.amend(fields: ["server": [WaypointTests.field(.address, to: waypoint)]])
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      #expect(try TCPClient(in: client.pod).end(of: server.address(port: 8080)) == .reset)
      #expect(try mesh.left.ztunnel.waitForLine("outbound", "HBONE_UNREACHABLE") != nil)
      #expect(echo.peers.isEmpty)
      let certificate = try EnvoyCertificate(
        PeerCertificate.good.issue(in: mesh, serviceAccount: "waypoint"), in: mesh.directory, name: "waypoint")
      let envoy = try EnvoyProcess(
        in: waypoint.pod, directory: mesh.directory, name: "waypoint",
        resources: Self.resources(on: waypoint, to: server, certificate))
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try connection.exchange("hello", timeout: .seconds(20)) == "hello")
      #expect(envoy.process.isRunning)
    }
  }
}
