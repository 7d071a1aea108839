import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@Suite("A pod", .requires(.root, .command("ip"), .command("ss")), .timeLimit(.minutes(2)))
struct PodLifecycleTests {
  private static let proxyPorts: Set<UInt16> = [15001, 15006, 15008]

  @Test("that leaves the mesh in the middle of a transfer has its connections cut, and no other pod's")
  func leaves() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let outside = try await mesh.pod("outside", on: mesh.left, inMesh: false)
      let leaving = try await mesh.pod("leaving", on: mesh.right)
      let staying = try await mesh.pod("staying", on: mesh.right)
      let source = try TCPServer(in: leaving.pod, port: 8080, .source(1 << 30))
      let echo = try TCPServer(in: staying.pod, port: 8080, .echo)
      defer {
        source.stop()
        echo.stop()
      }
      let undisturbed = try [client, outside].map { client in
        let connection = try TCPClient(in: client.pod).connect(to: staying.address(port: 8080))
        #expect(try connection.exchange("before") == "before")
        return connection
      }
      let cut = try [client, outside].map { client in
        let connection = try TCPClient(in: client.pod).connect(to: leaving.address(port: 8080))
        try connection.receivePattern(1_000_000)
        return connection
      }
      #expect(try leaving.pod.listeningPorts.isSuperset(of: Self.proxyPorts))
      // With its rules, without which the application's packets would go astray before the proxy learns anything.
      try await mesh.right.agent.remove(leaving, keepingRules: true)
      for connection in cut { #expect(try connection.end() == .reset) }
      for client in [client, outside] {
        let line = try #require(
          try mesh.right.ztunnel.waitForLine("connection complete", "DRAINED", "src.addr=\(client.pod.ipv4)"))
        #expect(line.contains("connection closed due to connection drain"))
      }
      #expect(try eventually { try leaving.pod.listeningPorts.isDisjoint(with: Self.proxyPorts) })
      for connection in undisturbed { #expect(try connection.exchange("after") == "after") }
    }
  }

  @Test("that leaves the mesh has the connections it opened cut, and can be enrolled again")
  func returns() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let listener = try TCPListener(in: server.pod, port: 8080)
      let near = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      let far = try listener.accept()
      try near.send("x")
      #expect(try far.receive(1).count == 1)
      try await mesh.left.agent.remove(client)
      #expect(try near.end() == .reset)
      #expect(try far.end() == .reset)
      #expect(try mesh.left.ztunnel.waitForLine("connection complete", "outbound", "DRAINED") != nil)

      try await mesh.left.agent.enrol(client)
      let again = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      try again.send("back")
      #expect(try listener.accept().receive(4) == Array("back".utf8))
    }
  }

  @Test("whose namespace is replaced is served in the new one, and let go of in the old")
  func replaced() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let old = try await mesh.pod("server", on: mesh.right)
      let oldEcho = try TCPServer(in: old.pod, port: 8080, .echo)
      defer { oldEcho.stop() }
      let connection = try TCPClient(in: client.pod).connect(to: old.address(port: 8080))
      #expect(try connection.exchange("hello") == "hello")

      var new = old
      new.pod = try mesh.right.node.pod("server2")
      try mesh.update(new)
      let newEcho = try TCPServer(in: new.pod, port: 8080, .echo)
      defer { newEcho.stop() }
      try await mesh.right.agent.enrol(new)
      #expect(try connection.end() == .reset)
      #expect(try mesh.right.ztunnel.waitForLine("connection complete", "DRAINED") != nil)
      #expect(try eventually { try old.pod.listeningPorts.isDisjoint(with: Self.proxyPorts) })
      let fresh = try TCPClient(in: client.pod).connect(to: new.address(port: 8080))
      #expect(try fresh.exchange("hello again") == "hello again")
      #expect(try mesh.right.ztunnel.hasLine("connection opened", "inbound", "\(new.pod.ipv4)"))
    }
  }

  @Test("that is announced twice goes on as it was")
  func announcedTwice() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let dialer = TCPClient(in: client.pod)
      let connection = try dialer.connect(to: server.address(port: 8080))
      #expect(try connection.exchange("hello") == "hello")
      try await mesh.left.agent.enrol(client)
      try await mesh.right.agent.announce(server)
      #expect(try connection.exchange("still here") == "still here")
      #expect(try dialer.connect(to: server.address(port: 8080)).exchange("new") == "new")
      for node in [mesh.left, mesh.right] {
        #expect(try node.ztunnel.lines.count { $0.contains("pod is served") } == 1)
        #expect(try !node.ztunnel.hasLine("pod is no longer served"))
      }
    }
  }
}
