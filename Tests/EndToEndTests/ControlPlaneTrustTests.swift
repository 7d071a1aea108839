import Foundation
import Identity
import Linux
import Testing
import Vocabulary

@testable import TestSupport

@Suite(
  "Certificates of a control plane under traffic", .requires(.root, .command("ip"), .grpc), .timeLimit(.minutes(4)))
struct ControlPlaneTrustTests {
  private func limitLifetime(_ seconds: Int, in mesh: ControlPlaneFixture) throws {
    try Data("\(seconds)".utf8).write(to: URL(fileURLWithPath: mesh.directory + "/state.json.lifetime"))
  }

  private func signatures(_ pod: MeshPod, by plane: RunningProcess) -> Int {
    plane.lines.count { $0.contains("signed \(pod.identity) ") }
  }

  private func isSignedAgain(_ pods: [MeshPod], by plane: RunningProcess, after before: [Int]) -> Bool {
    eventually(within: .seconds(40)) {
      zip(pods, before).allSatisfy { signatures($0, by: plane) > $1 }
    }
  }

  @Test("are renewed before they end, again and again: no new connection fails and the open one stays")
  func renewal() async throws {
    try await ControlPlaneFixture.with { mesh in
      try limitLifetime(8, in: mesh)
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      let open = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try open.exchange("first") == "first")
      let traffic = SteadyTraffic(from: client, to: server.address(port: 8080))
      let plane = try mesh.controlPlane
      let renewed = eventually(within: .seconds(60)) {
        signatures(client, by: plane) >= 5 && signatures(server, by: plane) >= 5
      }
      let result = traffic.stop()
      #expect(renewed)
      #expect(result.failures.isEmpty && result.succeeded > 20, "\(result)")
      #expect(try open.exchange("last") == "last", "older than any certificate")
    }
  }

  @Test("another root comes and the old one goes while connections are open and new ones are made")
  func rotation() async throws {
    try await ControlPlaneFixture.with { mesh in
      try limitLifetime(20, in: mesh)
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let pods = [client, server]
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      let (authority, other) = (mesh.directory + "/ca", mesh.directory + "/other-ca")
      try DevelopmentAuthority.create(in: other)
      func read(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }
      func write(_ text: String, _ name: String) throws {
        try text.write(toFile: "\(authority)/\(name)", atomically: true, encoding: .utf8)
      }
      let old = try read(authority + "/root-cert.pem")
      let new = try read(other + "/root-cert.pem")
      let open = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try open.exchange("a") == "a")
      let traffic = SteadyTraffic(from: client, to: server.address(port: 8080))

      // Both are trusted, at once and not when half a certificate's life is over.
      let plane = try mesh.controlPlane
      var before = pods.map { signatures($0, by: plane) }
      let subscriptions = plane.lines.count { $0.contains("subscribe") }
      try write(old + new, "root-cert.pem")
      for index in 0...1 {
        #expect(mesh.ztunnel(index).waitForLine("the roots of the control plane have changed") != nil)
      }
      let isNewStream = eventually(within: .seconds(20)) {
        plane.lines.count { $0.contains("subscribe") } >= subscriptions + 4
      }
      #expect(isNewStream, "both proxies have made new streams")
      #expect(isSignedAgain(pods, by: plane, after: before))
      #expect(try open.exchange("b") == "b")

      // The new one signs; the control plane itself is known by it too.
      for name in ["ca-cert.pem", "ca-key.pem"] { try write(try read("\(other)/\(name)"), name) }
      try mesh.stopControlPlane()
      try mesh.startControlPlane()
      let second = try mesh.controlPlane
      #expect(isSignedAgain(pods, by: second, after: [0, 0]))

      // Nobody has a certificate of the old one any more: it goes.
      before = pods.map { signatures($0, by: second) }
      try write(new, "root-cert.pem")
      #expect(isSignedAgain(pods, by: second, after: before))
      #expect(eventually(within: .seconds(20)) { second.lines.count { $0.contains("subscribe") } >= 8 })
      #expect(try open.exchange("c") == "c", "the first connection is still there")
      let result = traffic.stop()
      #expect(result.failures.isEmpty && result.succeeded > 20, "\(result)")
      // Whoever comes with the old root only is not who it says.
      #expect(try TCPClient(in: client.pod).connect(to: server.address(port: 8080)).exchange("d") == "d")
    }
  }
}
