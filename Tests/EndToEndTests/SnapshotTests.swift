import Foundation
import Testing
import Vocabulary

@testable import TestSupport

@Suite("Restart without the control plane", .requires(.root, .command("ip"), .grpc), .timeLimit(.minutes(3)))
struct SnapshotTests {
  @Test("known workloads are served and who was denied stays denied, until the control plane says otherwise")
  func restart() async throws {
    try await ControlPlaneFixture.with(environment: { directory in
      try? Data((0..<32).map { _ in UInt8.random(in: 0...255) }).write(to: URL(fileURLWithPath: directory + "/key"))
      return ["AMBIENT_SNAPSHOT_PATH": directory + "/kept-NODE", "AMBIENT_SNAPSHOT_KEY": directory + "/key"]
    }) { mesh in
      let friend = try await mesh.pod("friend", on: mesh.left)
      let stranger = try await mesh.pod("stranger", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      func reaches(_ client: MeshPod) -> Bool {
        (try? TCPClient(in: client.pod).connect(to: server.address(port: 8080)).exchange("hello")) == "hello"
      }
      func comesToReach(_ client: MeshPod) -> Bool { eventually(within: .seconds(30)) { reaches(client) } }

      try mesh.policy("no-strangers", "DENY", from: stranger)
      #expect(comesToReach(friend))
      #expect(!reaches(stranger))
      for name in ["left", "right"] {
        #expect(
          eventually(within: .seconds(10)) {
            FileManager.default.fileExists(atPath: "\(mesh.directory)/kept-\(name)/certificates.sealed")
          })
      }

      try mesh.stopControlPlane()
      try mesh.restartZtunnels()
      #expect(comesToReach(friend), "served without anybody to ask")
      #expect(mesh.ztunnel(1).hasLine("the control plane is away"))
      #expect(!reaches(stranger), "who was denied stays denied")

      try mesh.remove(.policy, "demo/no-strangers")
      try mesh.policy("no-friends", "DENY", from: friend)
      try mesh.startControlPlane()
      #expect(comesToReach(stranger), "its word replaces what was kept")
      #expect(!reaches(friend))
      #expect(try mesh.controlPlane.waitForLine("subscribe", "Address held=3") != nil)
      #expect(try !mesh.controlPlane.hasLine("signed"), "certificates were kept too")
    }
  }

  @Test("without a snapshot nothing is served, and nothing leaves in plaintext")
  func without() async throws {
    try await ControlPlaneFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      try mesh.stopControlPlane()
      try mesh.restartZtunnels()
      #expect(mesh.ztunnel(0).waitForLine("stream ended") != nil)
      #expect((try? TCPClient(in: client.pod).connect(to: server.address(port: 8080)).exchange("x")) == nil)
    }
  }
}
