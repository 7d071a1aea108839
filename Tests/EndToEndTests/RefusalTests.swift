import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@Suite("A connection that cannot be made", .requires(.root, .command("ip"), .command("ss")), .timeLimit(.minutes(2)))
struct RefusalTests {
  @Test("because no application listens ends with a reset, and both logs say so")
  func deadPort() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      #expect(try TCPClient(in: client.pod).end(of: server.address(port: 8081)) == .reset)
      let left = try #require(try mesh.left.ztunnel.waitForLine("connection complete", "PEER_REFUSED"))
      #expect(left.contains("http status: 503"))
      let right = try #require(try mesh.right.ztunnel.waitForLine("connection complete", "APPLICATION_UNREACHABLE"))
      #expect(right.contains("dst.hbone_addr=\(server.address(port: 8081))"))
    }
  }

  @Test("in plaintext because no application listens ends with a reset, too, on the way in and out")
  func deadPlaintextPort() async throws {
    try await MeshFixture.with { mesh in
      let inside = try await mesh.pod("inside", on: mesh.left)
      let outside = try await mesh.pod("outside", on: mesh.right, inMesh: false)
      #expect(try TCPClient(in: outside.pod).end(of: inside.address(port: 8081)) == .reset)
      #expect(try mesh.left.ztunnel.waitForLine("inbound", "APPLICATION_UNREACHABLE") != nil)
      #expect(try TCPClient(in: inside.pod).end(of: outside.address(port: 8081)) == .reset)
      #expect(try mesh.left.ztunnel.waitForLine("outbound", "UPSTREAM_UNREACHABLE") != nil)
    }
  }

  @Test("because a service has no endpoints, or not this port, is refused and never sent on in the clear")
  func noEndpoints() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      try mesh.service("empty", vip: "10.96.0.10", target: 8080, [])
      try mesh.service("web", vip: "10.96.0.11", target: 8080, [server])
      for (vip, port) in [("10.96.0.10", UInt16(80)), ("10.96.0.11", 81)] {
        let address = SocketAddress(try #require(IPAddress(vip)), port)
        #expect(try TCPClient(in: client.pod).end(of: address) == .reset)
        #expect(try mesh.left.ztunnel.waitForLine("ROUTE_NO_HEALTHY_UPSTREAM", "dst.addr=\(address)") != nil)
      }
    }
  }

  @Test("to one endpoint of a service is made to another", arguments: ["its proxy is gone", "its link is down"])
  func otherEndpoint(failure: String) async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let dead = try await mesh.pod("dead", on: mesh.right)
      let alive = try await mesh.pod("alive", on: mesh.right)
      try mesh.service("web", vip: "10.96.0.10", target: 8080, [dead, alive])
      let echo = try TCPServer(in: alive.pod, port: 8080, .echo)
      defer { echo.stop() }
      if failure == "its proxy is gone" {
        try await mesh.right.agent.remove(dead, keepingRules: true)
      } else {
        try dead.pod.place.ip(["link set eth0 down"])
      }
      let address = SocketAddress(try #require(IPAddress("10.96.0.10")), 80)
      let connections = try (0..<16).map { _ in try TCPClient(in: client.pod).connect(to: address) }
      for connection in connections { #expect(try connection.exchange("hello", timeout: .seconds(15)) == "hello") }
      // Endpoints are chosen at random: the dead one is left out 16 times once in 65536 runs.
      #expect(try mesh.left.ztunnel.hasLine("connection opened", "dst.workload=\"dead\""))
    }
  }

  @Test("because the proxy's own ports were dialled ends, and does not loop")
  func ownPorts() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let outside = try await mesh.pod("outside", on: mesh.right, inMesh: false)
      for port in [UInt16(15001), 15006, 15008] {
        let attempts = [
          (client, SocketAddress(.loopback(.v4), port)), (client, client.address(.v4, port: port)),
          (client, client.address(.v6, port: port)), (client, server.address(.v4, port: port)),
          (client, server.address(.v6, port: port)), (outside, server.address(.v4, port: port)),
          (outside, server.address(.v6, port: port)),
        ]
        for (from, to) in attempts {
          #expect(try TCPClient(in: from.pod).end(of: to) != .none, "\(from.name) to \(to)")
        }
      }
      // Nothing goes round: what was opened for the attempts is over.
      for pod in [client, server] {
        #expect(
          try eventually(within: .seconds(10)) {
            try pod.pod.establishedConnections("( sport = :15001 or sport = :15006 )") == 0
          })
      }
      for node in [mesh.left, mesh.right] { #expect(try node.ztunnel.lines.count < 500) }
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      #expect(try TCPClient(in: client.pod).connect(to: server.address(port: 8080)).exchange("hello") == "hello")
    }
  }
}
