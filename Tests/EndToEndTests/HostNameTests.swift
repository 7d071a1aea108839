import TestSupport
import Testing
import Vocabulary

@Suite("A service whose endpoint has only a host name", .requires(.root, .command("ip")))
struct HostNameTests {
  private func entry(_ hostname: String) -> String {
    """
    - uid: external/\(hostname)
      name: \(hostname)
      namespace: demo
      workloadIps: []
      hostname: \(hostname)
      protocol: TCP
      services:
        demo/external.demo.svc.cluster.local: {80: 8080}
    """
  }

  @Test("is reached at an address the system finds for it", arguments: ["10.96.0.20", "fd96::20"])
  func resolved(vip: String) async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      try mesh.amend(
        workloads: [entry("localhost")],
        services: [mesh.serviceEntry("external", vip: vip, ports: "80: 8080", endpoints: [])])
      // The name is looked up on the node and dialled from the pod, where it is the pod's own loopback.
      let echo = try TCPServer(in: client.pod, port: 8080, .echo)
      defer { echo.stop() }
      let address = SocketAddress(try #require(IPAddress(vip)), 80)
      for _ in 0..<4 { #expect(try TCPClient(in: client.pod).connect(to: address).exchange("hello") == "hello") }
      #expect(try mesh.left.ztunnel.waitForLine("complete", "dst.workload=\"localhost\"") != nil)
    }
  }

  @Test("that has no addresses is passed over when the service has another")
  func passedOver() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      try mesh.amend(
        workloads: [entry("does-not-exist.invalid")],
        services: [mesh.serviceEntry("external", vip: "10.96.0.20", ports: "80: 8080", endpoints: ["server"])])
      let address = SocketAddress(try #require(IPAddress("10.96.0.20")), 80)
      for _ in 0..<8 {
        let connection = try TCPClient(in: client.pod).connect(to: address)
        #expect(try connection.exchange("hello", timeout: .seconds(20)) == "hello")
      }
    }
  }

  @Test("that has no addresses is refused with the reason, in bounded time")
  func unresolved() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      try mesh.amend(
        workloads: [entry("does-not-exist.invalid")],
        services: [mesh.serviceEntry("external", vip: "10.96.0.20", ports: "80: 8080", endpoints: [])])
      let address = SocketAddress(try #require(IPAddress("10.96.0.20")), 80)
      #expect(try TCPClient(in: client.pod).end(of: address) == .reset)
      let line = try #require(try mesh.left.ztunnel.waitForLine("ROUTE_UNRESOLVED_HOSTNAME"))
      #expect(line.contains("no ip addresses were resolved for workload: external/does-not-exist.invalid"))
    }
  }
}
