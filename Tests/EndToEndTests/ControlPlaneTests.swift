import Foundation
import Linux
import Testing
import Vocabulary

@testable import TestSupport

@Suite("Control plane", .requires(.root, .command("ip"), .grpc), .timeLimit(.minutes(3)))
struct ControlPlaneTests {
  /// Two pods that call and one that is called.
  private struct Cast {
    let friend: MeshPod
    let stranger: MeshPod
    let server: MeshPod
    private let application: TCPServer

    init(_ mesh: ControlPlaneFixture) async throws {
      friend = try await mesh.pod("friend", on: mesh.left)
      stranger = try await mesh.pod("stranger", on: mesh.left)
      server = try await mesh.pod("server", on: mesh.right)
      application = try TCPServer(in: server.pod, port: 8080, .echo)
    }

    func connect(_ client: MeshPod, to address: SocketAddress? = nil) throws -> TCPConnection {
      try TCPClient(in: client.pod).connect(to: address ?? server.address(port: 8080))
    }

    /// Whether a new connection carries anything.
    func reaches(_ client: MeshPod, _ address: SocketAddress? = nil) -> Bool {
      (try? connect(client, to: address).exchange("hello")) == "hello"
    }

    /// Whether it comes to that within some seconds, where nothing else tells when.
    func comesToReach(_ client: MeshPod) -> Bool {
      eventually(within: .seconds(15)) { reaches(client) }
    }
  }

  @Test("describes the mesh and signs its certificates, and both ends are who they claim to be")
  func traffic() async throws {
    try await ControlPlaneFixture.with { mesh in
      let cast = try await Cast(mesh)
      #expect(cast.reaches(cast.friend))
      let plane = try mesh.controlPlane
      for pod in [cast.friend, cast.stranger, cast.server] {
        #expect(plane.waitForLine("signed \(pod.identity)") != nil, "fetched before it is needed")
      }
      let outbound = mesh.ztunnel(0).waitForLine("dst.identity=\"\(cast.server.identity)\"")
      #expect(outbound?.contains("src.identity=\"\(cast.friend.identity)\"") == true)
      let inbound = mesh.ztunnel(1).waitForLine("direction=\"inbound\"", "src.identity=\"\(cast.friend.identity)\"")
      #expect(inbound != nil)
      #expect(plane.hasLine("subscribe ztunnel~1.1.1.1~ztunnel-left.istio-system~istio-system.svc.cluster.local"))
      #expect(plane.hasLine("ACK Address") && plane.hasLine("ACK Authorization"))
      #expect(!plane.hasLine("NACK"))
    }
  }

  @Test("changes policies under traffic: what is no longer allowed is closed, the rest goes on")
  func policies() async throws {
    try await ControlPlaneFixture.with { mesh in
      let cast = try await Cast(mesh)
      #expect(cast.reaches(cast.friend))
      let (kept, cut) = (try cast.connect(cast.friend), try cast.connect(cast.stranger))
      #expect(try kept.exchange("a") == "a")
      #expect(try cut.exchange("a") == "a")
      try mesh.policy("only", "ALLOW", from: cast.friend)
      #expect(try cut.end() != .none, "the open connection is closed")
      #expect(!cast.reaches(cast.stranger))
      #expect(try kept.exchange("b") == "b")
      // What is not understood is refused by name, and the version before it stays.
      try mesh.setGarbage(.policy, "demo/only")
      #expect(try mesh.controlPlane.waitForLine("NACK Authorization demo/only: the resource cannot be decoded") != nil)
      #expect(try kept.exchange("c") == "c")
      #expect(!cast.reaches(cast.stranger))
      try mesh.remove(.policy, "demo/only")
      #expect(cast.reaches(cast.stranger))
      // One that was never understood denies.
      try mesh.setGarbage(.policy, "demo/new")
      #expect(try kept.end() != .none)
      #expect(!cast.reaches(cast.friend))
      #expect(try mesh.controlPlane.waitForLine("NACK Authorization demo/new") != nil)
      try mesh.remove(.policy, "demo/new")
      #expect(cast.reaches(cast.friend))
    }
  }

  @Test("moves a service to other addresses and endpoints, and takes it away")
  func services() async throws {
    try await ControlPlaneFixture.with { mesh in
      let cast = try await Cast(mesh)
      let (first, second) = (IPAddress.v4(0x0a60_0001), IPAddress.v4(0x0a60_0002))
      try mesh.service("shop", at: first, target: 8080)
      try mesh.describe(cast.server, services: ["demo/shop": 8080])
      #expect(cast.reaches(cast.friend, SocketAddress(first, 80)))
      try mesh.service("shop", at: second, target: 8080)
      #expect(cast.reaches(cast.friend, SocketAddress(second, 80)))
      #expect(!cast.reaches(cast.friend, SocketAddress(first, 80)))
      // A bad address leaves the service as it was.
      try mesh.set(
        .address, "demo/shop",
        ["service": ["namespace": "demo", "hostname": "shop", "addresses": [["address": "AQI="]]]])
      #expect(try mesh.controlPlane.waitForLine("NACK Address demo/shop: addresses") != nil)
      #expect(cast.reaches(cast.friend, SocketAddress(second, 80)))
      try mesh.remove(.address, "demo/shop")
      #expect(!cast.reaches(cast.friend, SocketAddress(second, 80)))
      #expect(cast.reaches(cast.friend), "the pod itself stays")
    }
  }

  @Test("goes away without anybody noticing, and comes back with what has changed meanwhile")
  func absence() async throws {
    try await ControlPlaneFixture.with { mesh in
      let cast = try await Cast(mesh)
      try mesh.policy("gone", "DENY", from: cast.stranger)
      #expect(cast.reaches(cast.friend))
      #expect(!cast.reaches(cast.stranger))
      let open = try cast.connect(cast.friend)
      try mesh.stopControlPlane()
      #expect(mesh.ztunnel(0).waitForLine("stream ended") != nil)
      try mesh.remove(.policy, "demo/gone")
      try mesh.policy("new", "DENY", from: cast.friend)
      #expect(try open.exchange("a") == "a")
      #expect(cast.reaches(cast.friend))
      #expect(!cast.reaches(cast.stranger))
      try mesh.startControlPlane()
      #expect(try open.end(within: .seconds(30)) != .none)
      #expect(cast.comesToReach(cast.stranger))
      #expect(!cast.reaches(cast.friend))
      let plane = try mesh.controlPlane
      #expect(plane.waitForLine("subscribe", "Address held=3") != nil, "what is held is named, and not sent again")
      #expect(plane.hasLine("push Address resources=0 removed=0"))
      #expect(!plane.hasLine("signed"), "certificates in hand are not asked for anew")
    }
  }

  @Test("a connection that needs a certificate is held until there is one, and not refused at the first failure")
  func heldForCertificate() async throws {
    try await ControlPlaneFixture.with { mesh in
      let hold = mesh.directory + "/state.json.unsigned"
      try Data().write(to: URL(fileURLWithPath: hold))
      let cast = try await Cast(mesh)
      let plane = try mesh.controlPlane
      func refusals() -> Int { plane.lines.count { $0.contains("not signing") } }
      #expect(eventually(within: .seconds(20)) { refusals() > 0 }, "it is asked for before it is needed")
      let before = refusals()
      let connection = try cast.connect(cast.friend)
      try connection.send(Array("held".utf8))
      #expect(eventually(within: .seconds(9)) { refusals() > before }, "the connection has it tried again")
      try FileManager.default.removeItem(atPath: hold)
      #expect(String(decoding: try connection.receive(4, timeout: .seconds(30)), as: UTF8.self) == "held")
    }
  }

  @Test("refuses a wrong token; nothing is served until the right one is in its file")
  func token() async throws {
    try await ControlPlaneFixture.with(token: "of somebody else") { mesh in
      let plane = try mesh.controlPlane
      for index in 0...1 {
        #expect(mesh.ztunnel(index).waitForLine("GRPC_UNAUTHENTICATED") != nil)
        #expect(!mesh.ztunnel(index).hasLine("connected to the node agent"))
      }
      #expect(!plane.hasLine("subscribe"))
      try mesh.write(token: ControlPlaneFixture.token)
      #expect(plane.waitForLine("in force", "ztunnel-left", within: .seconds(20)) != nil)
      #expect(plane.waitForLine("in force", "ztunnel-right", within: .seconds(20)) != nil)
      let cast = try await Cast(mesh)
      #expect(cast.reaches(cast.friend))
    }
  }
}
