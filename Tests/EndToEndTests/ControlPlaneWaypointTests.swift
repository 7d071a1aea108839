import Foundation
import Identity
import TestSupport
import Testing
import Vocabulary

@Suite(
  "Waypoints that a control plane describes", .requires(.root, .command("ip"), .grpc, .envoy),
  .timeLimit(.minutes(4)))
struct ControlPlaneWaypointTests {
  private func envoy(_ waypoint: MeshPod, before server: MeshPod, in mesh: ControlPlaneFixture) async throws
    -> EnvoyProcess
  {
    let authority = try LocalAuthority(directory: mesh.directory + "/ca", lifetime: .seconds(3600))
    let certificate = try EnvoyCertificate(
      try await authority.issue(waypoint.spiffe), in: mesh.directory, name: waypoint.name)
    return try EnvoyProcess(
      in: waypoint.pod, directory: mesh.directory, name: waypoint.name,
      resources: WaypointEnvoyTests.resources(on: waypoint, to: server, certificate))
  }

  @Test("are used, exchanged and taken away as they are pushed; each connection stays on the way that it took")
  func lifecycle() async throws {
    try await ControlPlaneFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let first = try mesh.unservedPod("first", on: mesh.right)
      let second = try mesh.unservedPod("second", on: mesh.right)
      let envoys = [
        try await envoy(first, before: server, in: mesh), try await envoy(second, before: server, in: mesh),
      ]
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      let address = server.address(port: 8080)
      /// Opens a connection, which has to go by way of `next`.
      func open(by next: MeshPod) throws -> TCPConnection {
        let connection = try TCPClient(in: client.pod).connect(to: address)
        #expect(try connection.exchange("hello", timeout: .seconds(20)) == "hello")
        let own = try #require(connection.localAddress)
        let line = mesh.ztunnel(0).waitForLine(
          "connection opened", "src.addr=\(own) ", "dst.addr=\(next.address(port: 15008)) ")
        #expect(line != nil, "by way of \(next.name)")
        return connection
      }
      let traffic = SteadyTraffic(from: client, to: address)
      var connections = [try open(by: server)]
      try mesh.describe(server, waypoint: first)
      connections.append(try open(by: first))
      try mesh.describe(server, waypoint: second)
      connections.append(try open(by: second))
      try mesh.describe(server)
      connections.append(try open(by: server))
      for connection in connections { #expect(try connection.exchange("again") == "again") }
      let result = traffic.stop()
      #expect(result.failures.isEmpty && result.succeeded > 0, "\(result)")
      // With nobody in front, waypoints may go altogether.
      for waypoint in [first, second] { try mesh.remove(.address, waypoint.uid) }
      for envoy in envoys { envoy.process.kill() }
      #expect(try open(by: server).exchange("on") == "on")
      #expect(try connections[0].exchange("still") == "still")
    }
  }
}
