import Foundation
import Linux
import Testing
import Vocabulary

@testable import TestSupport

@Suite("On demand", .requires(.root, .command("ip"), .grpc), .timeLimit(.minutes(3)))
struct OnDemandTests {
  private func reaches(_ client: MeshPod, _ address: SocketAddress) -> Bool {
    (try? TCPClient(in: client.pod).connect(to: address).exchange("hello")) == "hello"
  }

  private func demands(_ key: String, of mesh: ControlPlaneFixture) throws -> Int {
    try mesh.controlPlane.output.split(separator: "\n").count { $0 == "demand Address \(key)" }
  }

  @Test("asks once for what connections need, by address, and gets nothing else")
  func learns() async throws {
    try await ControlPlaneFixture.with(onDemand: true) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let bystander = try await mesh.pod("bystander", on: mesh.right)
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      let address = server.address(port: 8080)

      #expect(reaches(client, address))
      #expect(reaches(client, address))
      let plane = try mesh.controlPlane
      #expect(plane.hasLine("subscribe ztunnel~1.1.1.1~ztunnel-left", "Address held=0"))
      let outbound = mesh.ztunnel(0).waitForLine("direction=\"outbound\"", "dst.identity=\"\(server.identity)\"")
      #expect(outbound != nil, "through a tunnel, to the right identity")
      let inbound = mesh.ztunnel(1).waitForLine("direction=\"inbound\"", "src.workload=\"client\"")
      #expect(inbound != nil, "the far side has learnt who calls")
      #expect(try demands("/\(server.pod.address(.v4))", of: mesh) == 1)
      #expect(!plane.output.contains("demand Address /\(bystander.pod.address(.v4))"))

      // A service brings its endpoints along, and moves them.
      let virtual = IPAddress.v4(0x0a60_0001)
      try mesh.service("shop", at: virtual, target: 8080)
      try mesh.describe(server, services: ["demo/shop": 8080])
      #expect(reaches(client, SocketAddress(virtual, 80)))
      try mesh.describe(server)
      #expect(!reaches(client, SocketAddress(virtual, 80)), "its endpoint is gone")
      try mesh.describe(server, services: ["demo/shop": 8080])
      #expect(reaches(client, SocketAddress(virtual, 80)))
      #expect(try demands("/\(virtual)", of: mesh) == 1)

      // What is gone is asked for anew, in case somebody else has the address.
      try mesh.remove(.address, "demo/shop")
      #expect(!reaches(client, SocketAddress(virtual, 80)))
      try mesh.service("store", at: virtual, target: 8080)
      try mesh.describe(server, services: ["demo/store": 8080])
      #expect(
        eventually(within: .seconds(15)) { reaches(client, SocketAddress(virtual, 80)) })
    }
  }

  @Test("asks once for an address that is not the mesh's, and then lets connections pass to it")
  func outside() async throws {
    try await ControlPlaneFixture.with(onDemand: true) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let stranger = try mesh.right.pod("stranger")
      let application = try TCPServer(in: stranger, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      let address = SocketAddress(stranger.address(.v4), 8080)
      for _ in 0..<3 { #expect(reaches(client, address)) }
      #expect(try demands("/\(address.ip)", of: mesh) == 1)
      #expect(try mesh.controlPlane.hasLine("without /\(address.ip)"))
    }
  }

  @Test("learns the hosts that clients of the SOCKS5 port name, by their namespaces")
  func socks() async throws {
    try await ControlPlaneFixture.with(
      onDemand: true, environment: { _ in ["UNSTABLE_ENABLE_SOCKS5": "true", "PREFERED_SERVICE_NAMESPACE": "infra"] }
    ) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      let hosts = ["shop.demo.svc.cluster.local", "api.example.com", "*.wild.example"]
      for (index, host) in hosts.enumerated() {
        try mesh.service(host, at: .v4(0x0a60_0001 + UInt32(index)), target: 8080)
      }
      try mesh.describe(server, services: Dictionary(uniqueKeysWithValues: hosts.map { ("demo/\($0)", 8080) }))
      for name in ["shop", "api.example.com", "a.wild.example"] {
        let connection = try TCPClient(in: client.pod).connect(to: SocketAddress(.loopback(.v4), 15080))
        try connection.send([5, 1, 0, 5, 1, 0, 3, UInt8(name.utf8.count)] + Array(name.utf8) + [0, 80])
        #expect(try connection.receive(12, timeout: .seconds(20)) == [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0], "\(name)")
        #expect(try connection.exchange("hello") == "hello", "\(name)")
      }
      #expect(try demands("demo/shop.demo.svc.cluster.local", of: mesh) == 1)
      #expect(try demands("infra/api.example.com", of: mesh) == 1, "and where services are preferred from")
    }
  }

  @Test("while the control plane is away, an unknown address is refused with the reason, and a known one is not")
  func away() async throws {
    try await ControlPlaneFixture.with(onDemand: true) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let other = try await mesh.pod("other", on: mesh.right)
      let applications = [
        try TCPServer(in: server.pod, port: 8080, .echo), try TCPServer(in: other.pod, port: 8080, .echo),
      ]
      defer { withExtendedLifetime(applications) {} }
      #expect(reaches(client, server.address(port: 8080)))
      try mesh.stopControlPlane()
      #expect(mesh.ztunnel(0).waitForLine("stream ended") != nil)
      #expect(reaches(client, server.address(port: 8080)))
      #expect(!reaches(client, other.address(port: 8080)))
      let line = mesh.ztunnel(0).waitForLine("XDS_ON_DEMAND_TIMEOUT", within: .seconds(20))
      #expect(line?.contains("/\(other.pod.address(.v4))") == true)
      try mesh.startControlPlane()
      #expect(eventually(within: .seconds(30)) { reaches(client, other.address(port: 8080)) })
      let plane = try mesh.controlPlane
      let subscription = plane.waitForLine("subscribe ztunnel~1.1.1.1~ztunnel-left", "Address held=")
      #expect(subscription?.hasSuffix("held=0") == false, "what is held is named")
      #expect(reaches(client, server.address(port: 8080)))
      #expect(try demands("/\(server.pod.address(.v4))", of: mesh) == 0, "it is still held")
    }
  }
}
