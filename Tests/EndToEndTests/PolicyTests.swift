import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

/// The pods most policy tests need: two in the mesh that call, one outside that calls, and one that is called.
private struct Cast {
  let friend: MeshPod
  let stranger: MeshPod
  let outside: MeshPod
  let server: MeshPod
  private let servers: [TCPServer]

  init(_ mesh: MeshFixture, serverPolicies: [String] = []) async throws {
    friend = try await mesh.pod("friend", on: mesh.left)
    stranger = try await mesh.pod("stranger", on: mesh.left)
    outside = try await mesh.pod("outside", on: mesh.left, inMesh: false)
    server = try await mesh.pod("server", on: mesh.right, policies: serverPolicies)
    let place = server.pod
    servers = try [8080, 9090].map { try TCPServer(in: place, port: $0, .echo) }
  }

  func connect(_ client: MeshPod, port: UInt16 = 8080) throws -> TCPConnection {
    try TCPClient(in: client.pod).connect(to: server.address(port: port))
  }

  /// Whether a new connection of `client` carries anything; false when it ended without.
  func isAllowed(_ client: MeshPod, port: UInt16 = 8080) throws -> Bool {
    do {
      return try connect(client, port: port).exchange("hello") == "hello"
    } catch let error as SystemError where [ECONNRESET, EPIPE].contains(error.number) {
      return false
    } catch TCPTestError.endedEarly {
      return false
    }
  }
}

@Suite("Policy", .requires(.root, .command("ip"), .command("ss")), .timeLimit(.minutes(2)))
struct PolicyTests {
  // MARK: New connections

  @Test("that allows one identity refuses all others, and those that have none")
  func allowByPrincipal() async throws {
    try await MeshFixture.with { mesh in
      let cast = try await Cast(mesh)
      #expect(try cast.isAllowed(cast.stranger))
      try mesh.add(MeshPolicy(name: "friends", action: .allow, matches: [MeshPolicy.from(cast.friend)]))
      #expect(try cast.isAllowed(cast.friend))
      #expect(try !cast.isAllowed(cast.stranger))
      let line = try #require(try mesh.right.ztunnel.waitForLine("POLICY_NOT_ALLOWED", cast.stranger.identity))
      #expect(line.contains("connection closed due to policy rejection: allow policies exist, but none allowed"))
      #expect(try mesh.left.ztunnel.waitForLine("PEER_DENIED", "http status: 401") != nil)
      #expect(try !cast.isAllowed(cast.outside))
      #expect(try mesh.right.ztunnel.waitForLine("POLICY_NOT_ALLOWED", "src.addr=\(cast.outside.pod.ipv4)") != nil)
    }
  }

  @Test("that denies comes before one that allows")
  func denyBeforeAllow() async throws {
    try await MeshFixture.with { mesh in
      let cast = try await Cast(mesh)
      try mesh.add(
        MeshPolicy(name: "both", action: .allow, matches: [MeshPolicy.from(cast.friend, cast.stranger)]))
      try mesh.add(MeshPolicy(name: "not-you", action: .deny, matches: [MeshPolicy.from(cast.stranger)]))
      #expect(try cast.isAllowed(cast.friend))
      #expect(try !cast.isAllowed(cast.stranger))
      let line = try #require(try mesh.right.ztunnel.waitForLine("POLICY_DENIED"))
      #expect(line.contains("connection closed due to policy rejection: explicitly denied by: demo/not-you"))
      try mesh.removePolicies()
      #expect(try cast.isAllowed(cast.stranger))
    }
  }

  @Test("of a namespace holds for its pods, a global one for all, another namespace's for none of them")
  func scopes() async throws {
    try await MeshFixture.with { mesh in
      let cast = try await Cast(mesh)
      let everyone = ["namespaces: [\"*\"]", "notNamespaces: [nowhere]"]
      try mesh.add(MeshPolicy(name: "elsewhere", namespace: "shop", action: .deny, matches: everyone))
      try mesh.add(MeshPolicy(name: "unattached", scope: .workload, action: .deny, matches: everyone))
      #expect(try cast.isAllowed(cast.friend))
      #expect(try cast.isAllowed(cast.outside))
      try mesh.add(MeshPolicy(name: "here", action: .deny, matches: ["destinationPorts: [8080]"]))
      #expect(try !cast.isAllowed(cast.friend))
      #expect(try cast.isAllowed(cast.friend, port: 9090))
      try mesh.add(
        MeshPolicy(
          name: "everywhere", namespace: "istio-system", scope: .global, action: .deny,
          matches: ["destinationPorts: [9090]"]))
      #expect(try !cast.isAllowed(cast.friend, port: 9090))
      #expect(try mesh.right.ztunnel.waitForLine("explicitly denied by: istio-system/everywhere") != nil)
    }
  }

  @Test("of ports looks at the application's port, for tunnels as for plaintext")
  func ports() async throws {
    try await MeshFixture.with { mesh in
      let cast = try await Cast(mesh)
      try mesh.add(MeshPolicy(name: "web", action: .allow, matches: ["destinationPorts: [8080]"]))
      for client in [cast.friend, cast.outside] {
        #expect(try cast.isAllowed(client, port: 8080), "\(client.name)")
        #expect(try !cast.isAllowed(client, port: 9090), "\(client.name)")
      }
    }
  }

  @Test("that makes mutual TLS strict refuses plaintext and lets tunnels in")
  func strict() async throws {
    try await MeshFixture.with { mesh in
      try mesh.add(MeshPolicy.strictMTLS)
      let cast = try await Cast(mesh, serverPolicies: [MeshPolicy.strictMTLS.key])
      #expect(try cast.isAllowed(cast.friend))
      #expect(try !cast.isAllowed(cast.outside))
      #expect(
        try mesh.right.ztunnel.waitForLine("explicitly denied by: istio-system/istio_converted_static_strict") != nil)
    }
  }

  @Test("that a workload refers to and nobody knows fails closed, until it is known")
  func unknownPolicy() async throws {
    try await MeshFixture.with { mesh in
      let policy = MeshPolicy(name: "late", scope: .workload, action: .deny, matches: ["destinationPorts: [9090]"])
      let cast = try await Cast(mesh, serverPolicies: [policy.key])
      #expect(try !cast.isAllowed(cast.friend))
      #expect(try !cast.isAllowed(cast.outside))
      let line = try #require(try mesh.right.ztunnel.waitForLine("POLICY_UNKNOWN"))
      #expect(line.contains("demo/late"))
      try mesh.add(policy)
      #expect(try cast.isAllowed(cast.friend))
      #expect(try cast.isAllowed(cast.outside))
    }
  }

  @Test("in dry run refuses nothing, and is logged")
  func dryRun() async throws {
    try await MeshFixture.with(environment: ["AUTHZ_POLICY_INFO_LOGGING": "true"]) { mesh in
      let cast = try await Cast(mesh)
      try mesh.add(
        MeshPolicy(name: "rehearsal", action: .deny, isDryRun: true, matches: [MeshPolicy.from(cast.friend)]))
      #expect(try cast.isAllowed(cast.friend))
      #expect(try mesh.right.ztunnel.waitForLine("dry-run: deny policy match", "demo/rehearsal") != nil)
      #expect(try cast.isAllowed(cast.stranger))
    }
  }

  // MARK: Connections under way

  @Test("that is added closes open connections it refuses, tunnelled and plain, and leaves the others")
  func addedWhileOpen() async throws {
    try await MeshFixture.with { mesh in
      let cast = try await Cast(mesh)
      let open = try [cast.friend, cast.stranger, cast.outside].map { client in
        let connection = try cast.connect(client)
        #expect(try connection.exchange("hello") == "hello")
        return connection
      }
      try mesh.add(MeshPolicy(name: "friends", action: .allow, matches: [MeshPolicy.from(cast.friend)]))
      #expect(try open[1].end() == .reset)
      #expect(try open[2].end() == .reset)
      for client in [cast.stranger, cast.outside] {
        let line = try #require(
          try mesh.right.ztunnel.waitForLine("connection complete", "POLICY_CHANGED", "\(client.pod.ipv4)"))
        #expect(line.contains("connection closed due to policy change"))
        #expect(line.contains("bytes_sent=5 bytes_recv=5"))
      }
      #expect(try open[0].exchange("still here") == "still here")
    }
  }

  @Test("that a workload comes to refer to closes its open connections, tunnelled and plain")
  func attachedWhileOpen() async throws {
    try await MeshFixture.with { mesh in
      let policy = MeshPolicy(name: "closed", scope: .workload, action: .deny, matches: ["destinationPorts: [8080]"])
      let cast = try await Cast(mesh)
      try mesh.add(policy)
      let open = try [cast.friend, cast.outside].map { try cast.connect($0) }
      let other = try cast.connect(cast.friend, port: 9090)
      for connection in open + [other] { #expect(try connection.exchange("hello") == "hello") }
      var server = cast.server
      server.policies = [policy.key]
      try mesh.update(server)
      for connection in open { #expect(try connection.end() == .reset) }
      #expect(try other.exchange("still here") == "still here")
      for client in [cast.friend, cast.outside] {
        #expect(try mesh.right.ztunnel.waitForLine("POLICY_CHANGED", "\(client.pod.ipv4)") != nil)
      }
    }
  }

  @Test("and mesh changes that concern others leave open connections alone")
  func unrelatedChanges() async throws {
    try await MeshFixture.with { mesh in
      let cast = try await Cast(mesh)
      let open = try [cast.friend, cast.outside].map { try cast.connect($0) }
      for connection in open { #expect(try connection.exchange("hello") == "hello") }
      try mesh.add(
        MeshPolicy(name: "elsewhere", namespace: "shop", action: .deny, matches: ["destinationPorts: [8080]"]))
      try mesh.add(MeshPolicy(name: "other-port", action: .deny, matches: ["destinationPorts: [9090]"]))
      try mesh.add(MeshPolicy(name: "this-port", action: .allow, matches: ["destinationPorts: [8080]"]))
      try mesh.service("web", vip: "10.96.0.10", target: 8080, [cast.server])
      _ = try await mesh.pod("newcomer", on: mesh.right)
      try mesh.removePolicies()
      for connection in open { #expect(try connection.exchange("still here") == "still here") }
    }
  }
}
