import Foundation
import TLS
import Testing
import Vocabulary

@testable import TestSupport

@Suite("Certificates from a SPIFFE agent", .requires(.root, .command("ip"), .grpc), .timeLimit(.minutes(3)))
struct SPIFFEAgentTests {
  /// A root that signs for the agent.
  private struct Issuer {
    let key: PrivateKey
    let root: Certificate

    init() throws {
      key = try PrivateKey.generate()
      root = try CertificateTemplate(
        commonName: "Agent", isAuthority: true, notBefore: .now.advanced(bySeconds: -60),
        notAfter: .now.advanced(bySeconds: 7200)
      ).signed(for: key)
    }

    /// What the agent gives, in the form of its state file.
    func state(_ identities: [String]) throws -> Data {
      let bundle = Data(try root.der()).base64EncodedString()
      let entries = try identities.map { identity in
        let leafKey = try PrivateKey.generate()
        let leaf = try CertificateTemplate(
          alternativeNames: [.uri(identity)], usages: [.clientAuthentication, .serverAuthentication],
          notBefore: .now.advanced(bySeconds: -60), notAfter: .now.advanced(bySeconds: 3600)
        ).signed(for: leafKey, by: (root, key))
        return [
          "id": identity, "svid": Data(try leaf.der()).base64EncodedString(),
          "key": Data(try leafKey.der()).base64EncodedString(), "bundle": bundle,
        ]
      }
      return try JSONSerialization.data(withJSONObject: ["svids": entries])
    }
  }

  @Test("carry tunnels; who gets none is refused by name, and served once the agent gives one")
  func traffic() async throws {
    try await ControlPlaneFixture.with(environment: {
      ["CA_ADDRESS": "", "SPIFFE_ENDPOINT_SOCKET": "unix://\($0)/agent.sock"]
    }) { mesh in
      let issuer = try Issuer()
      let client = try await mesh.pod("client", on: mesh.left)
      let other = try await mesh.pod("other", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      func reaches(_ client: MeshPod) -> Bool {
        (try? TCPClient(in: client.pod).connect(to: server.address(port: 8080)).exchange("hello", timeout: .seconds(15)))
          == "hello"
      }
      let state = URL(fileURLWithPath: mesh.directory + "/agent.json")
      try issuer.state([client.identity, server.identity]).write(to: state, options: .atomic)
      let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      let agent = try RunningProcess([
        GRPCEnvironment.python, root.appending(path: "IdentityTests/Servers/agent.py").path,
        mesh.directory + "/agent.sock",
        root.deletingLastPathComponent().appending(path: "Sources/IstioAPI/proto").path, state.path,
      ])
      defer { agent.kill() }
      try #require(agent.waitForLine("serving", within: .seconds(60)) != nil)

      #expect(eventually(within: .seconds(30)) { reaches(client) })
      #expect(try !mesh.controlPlane.hasLine("signed"), "nobody else was asked")
      #expect(!reaches(other))
      let refused = mesh.ztunnel(0).waitForLine("does not give \(other.identity)")
      #expect(refused != nil)
      try issuer.state([client.identity, server.identity, other.identity]).write(to: state, options: .atomic)
      #expect(eventually(within: .seconds(30)) { reaches(other) })
    }
  }
}
