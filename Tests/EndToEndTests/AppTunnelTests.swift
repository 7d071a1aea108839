import TestSupport
import Testing
import Vocabulary

@Suite("An application tunnel with the PROXY protocol", .requires(.root, .command("ip")))
struct AppTunnelTests {
  @Test(
    "is told over loopback who connects and where to, then gets the bytes",
    arguments: [IPAddress.Family.v4, .v6])
  func header(family: IPAddress.Family) async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      try mesh.amend(fields: ["server": ["applicationTunnel: {protocol: PROXY, port: 15088}"]])
      let application = try TCPListener(in: server.pod, port: 15088)
      let connection = try TCPClient(in: client.pod).connect(to: server.address(family, port: 8080))
      try connection.send("hello")
      let accepted = try application.accept()
      #expect(accepted.localAddress?.canonical == SocketAddress(.loopback(family), 15088))
      let header = try AppTunnelHeader(from: accepted)
      #expect(header.source?.ip == client.pod.address(family))
      #expect(header.destination == server.address(family, port: 8080))
      #expect(header.values == [0xd0: client.identity])
      #expect(try accepted.receive(5) == Array("hello".utf8))
      try accepted.send("world")
      try accepted.finishSending()
      #expect(try connection.receiveTextToEnd() == "world")
      try connection.finishSending()
      #expect(try accepted.receiveToEnd().isEmpty)
      let line = try #require(try mesh.right.ztunnel.waitForLine("connection complete", "inbound"))
      #expect(line.contains("dst.hbone_addr=\(server.address(family, port: 8080))"))
      #expect(line.contains("bytes_sent=5 bytes_recv=5"), "the header is nobody's traffic")
    }
  }

  @Test("is told who connects before an application that speaks first is heard")
  func serverFirst() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      try mesh.amend(fields: ["server": ["applicationTunnel: {protocol: PROXY}"]])
      let application = try TCPListener(in: server.pod, port: 8080)
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      let accepted = try application.accept()
      try accepted.send("welcome")
      #expect(try connection.receive(7) == Array("welcome".utf8))
      #expect(try AppTunnelHeader(from: accepted).values == [0xd0: client.identity])
    }
  }

  @Test("is reached at the pod's address, from the client's, where loopback is switched off")
  func podAddress() async throws {
    try await MeshFixture.with(environment: ["LOCALHOST_APP_TUNNEL": "false"]) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      try mesh.amend(fields: ["server": ["applicationTunnel: {protocol: PROXY, port: 15088}"]])
      let application = try TCPListener(in: server.pod, port: 15088)
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      try connection.send("x")
      let accepted = try application.accept()
      #expect(accepted.localAddress?.canonical == server.address(port: 15088))
      #expect(try AppTunnelHeader(from: accepted).destination == server.address(port: 8080))
    }
  }

  @Test("without the PROXY protocol gets another port and the bytes only")
  func bytesOnly() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      try mesh.amend(fields: ["server": ["applicationTunnel: {protocol: NONE, port: 15088}"]])
      let application = try TCPListener(in: server.pod, port: 15088)
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      try connection.send("hello")
      #expect(try application.accept().receive(5) == Array("hello".utf8))
    }
  }
}
