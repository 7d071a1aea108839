import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@Suite("A connection between two pods", .requires(.root, .command("ip")))
struct TunnelTests {
  @Test("is captured, tunnelled with mutual TLS and delivered", arguments: [IPAddress.Family.v4, .v6])
  func delivered(family: IPAddress.Family) async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let connection = try TCPClient(in: client.pod).connect(to: server.address(family, port: 8080))
      #expect(try connection.exchange("hello") == "hello")
      try connection.finishSending()
      #expect(try connection.receiveToEnd().isEmpty)
      #expect(echo.peers.map(\.ip) == [client.pod.address(family)], "the server sees the client's own address")

      let out = try #require(try mesh.left.ztunnel.waitForLine(containing: "connection complete"))
      #expect(out.contains("src.identity=\"\(client.identity)\""))
      #expect(out.contains("dst.identity=\"\(server.identity)\""))
      #expect(out.contains("dst.addr=\(server.address(family, port: 15008))"))
      #expect(out.contains("dst.hbone_addr=\(server.address(family, port: 8080))"))
      #expect(out.contains("direction=\"outbound\" bytes_sent=5 bytes_recv=5"))
      #expect(!out.contains("error="))
      let received = try #require(try mesh.right.ztunnel.waitForLine(containing: "connection complete"))
      #expect(received.contains("src.identity=\"\(client.identity)\""))
      #expect(received.contains("direction=\"inbound\" bytes_sent=5 bytes_recv=5"))
    }
  }
}
