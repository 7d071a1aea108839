import Foundation
import Linux
import Testing
import Vocabulary

@testable import TestSupport

@Suite("A control plane that fails", .requires(.root, .command("ip"), .grpc), .timeLimit(.minutes(4)))
struct ControlPlaneFailureTests {
  private func reaches(_ client: MeshPod, _ address: SocketAddress) -> Bool {
    (try? TCPClient(in: client.pod).connect(to: address).exchange("hello")) == "hello"
  }

  /// A workload that nobody needs.
  private func bystander(_ index: Int, weighing bytes: Int) -> (String, [String: Any]) {
    let uid = "west//Pod/crowd/bystander-\(index)-of-a-deployment-with-a-name-as-long-as-they-are"
    return (
      uid,
      [
        "workload": [
          "uid": uid, "name": "bystander-\(index)", "namespace": "crowd",
          "canonicalName": String(repeating: "x", count: bytes),
        ]
      ]
    )
  }

  @Test("in the middle of a push leaves what was in force, and is understood when it is back")
  func middleOfPush() async throws {
    try await ControlPlaneFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      let (first, second) = (IPAddress.v4(0x0a60_0001), IPAddress.v4(0x0a60_0002))
      try mesh.service("shop", at: first, target: 8080)
      try mesh.describe(server, services: ["demo/shop": 8080])
      let open = try TCPClient(in: client.pod).connect(to: SocketAddress(first, 80))
      #expect(try open.exchange("a") == "a")

      // More than the buffers on the way take, to a proxy that does not read: the push cannot be over.
      let proxy = mesh.ztunnel(0)
      let plane = try mesh.controlPlane
      let pushes = plane.lines.count { $0.contains("push Address") }
      #expect(kill(proxy.pid, SIGSTOP) == 0)
      do {
        defer { _ = kill(proxy.pid, SIGCONT) }
        var addresses = Dictionary(uniqueKeysWithValues: (0..<16).map { bystander($0, weighing: 1 << 20) })
        addresses["demo/shop"] = [
          "service": [
            "name": "shop", "namespace": "demo", "hostname": "shop",
            "addresses": [["address": Data(second.bytes).base64EncodedString()]],
            "ports": [["servicePort": 80, "targetPort": 8080]],
          ]
        ]
        try mesh.set(addresses: addresses, awaitingAnswers: false)
        let isPushing = eventually(within: .seconds(60)) {
          plane.lines.count { $0.contains("push Address") } >= pushes + 2
        }
        #expect(isPushing, "to both proxies")
        try mesh.stopControlPlane()
      }
      #expect(proxy.waitForLine("stream ended", within: .seconds(30)) != nil)
      #expect(try open.exchange("b") == "b")
      #expect(reaches(client, SocketAddress(first, 80)), "what was in force is")
      #expect(!reaches(client, SocketAddress(second, 80)), "half a push changes nothing")
      try mesh.startControlPlane()
      #expect(try mesh.controlPlane.waitForLine("in force", "ztunnel-left", within: .seconds(60)) != nil)
      #expect(reaches(client, SocketAddress(second, 80)))
      #expect(!reaches(client, SocketAddress(first, 80)))
      #expect(try open.exchange("c") == "c")
    }
  }

  @Test("to take a request that names all that is held is asked for everything, and what does not come is gone")
  func smallRequests() async throws {
    try await ControlPlaneFixture.with(receives: 64 << 10) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      let virtual = SocketAddress(.v4(0x0a60_0001), 80)
      try mesh.service("shop", at: virtual.ip, target: 8080)
      try mesh.describe(server, services: ["demo/shop": 8080])
      try mesh.set(addresses: Dictionary(uniqueKeysWithValues: (0..<1000).map { bystander($0, weighing: 8) }))
      #expect(reaches(client, virtual))
      let open = try TCPClient(in: client.pod).connect(to: virtual)
      #expect(try open.exchange("a") == "a")

      try mesh.stopControlPlane()
      #expect(mesh.ztunnel(0).waitForLine("stream ended") != nil)
      try mesh.remove(.address, "demo/shop")
      try mesh.startControlPlane()
      for index in 0...1 {
        let line = mesh.ztunnel(index).waitForLine("does not take so many names at once", within: .seconds(40))
        #expect(line != nil)
        #expect(mesh.ztunnel(index).waitForLine("stream ended", "GRPC_RESOURCE_EXHAUSTED") != nil)
        let name = index == 0 ? "ztunnel-left" : "ztunnel-right"
        #expect(try mesh.controlPlane.waitForLine("in force", name, within: .seconds(40)) != nil)
      }
      #expect(try mesh.controlPlane.hasLine("subscribe", "Address held=0"))
      #expect(!reaches(client, virtual), "it was removed while nobody could say so")
      #expect(reaches(client, server.address(port: 8080)), "the rest is there")
      #expect(try open.exchange("b") == "b")
    }
  }

  @Test("to answer is left for a new stream, with the reason")
  func silence() async throws {
    try await ControlPlaneFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      try mesh.stopControlPlane()
      let silent = mesh.directory + "/state.json.silent"
      try Data().write(to: URL(fileURLWithPath: silent))
      try mesh.startControlPlane()
      #expect(mesh.ztunnel(0).waitForLine("XDS_UNANSWERED", within: .seconds(75)) != nil)
      #expect(reaches(client, server.address(port: 8080)))
      try FileManager.default.removeItem(atPath: silent)
      #expect(try mesh.controlPlane.waitForLine("in force", "ztunnel-left", within: .seconds(60)) != nil)
    }
  }
}
