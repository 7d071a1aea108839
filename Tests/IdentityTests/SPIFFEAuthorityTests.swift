import Foundation
import GRPC
import HTTP2
import Linux
import TLS
import TestSupport
import Testing
import Vocabulary

@testable import Identity

@Suite("A SPIFFE agent as authority", .requires(.grpc), .timeLimit(.minutes(3)))
struct SPIFFEAuthorityTests {
  /// An agent on gRPC's C core, what it gives, and an authority that follows it.
  private final class Bench: Sendable {
    let directory: String
    let issuer: TestIssuer
    let loop: EventLoop
    let authority: SPIFFEAuthority
    var socket: String { directory + "/agent.sock" }

    init() throws {
      directory = "/tmp/agent-" + UUID().uuidString.prefix(8)
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
      issuer = try TestIssuer()
      loop = try EventLoop(name: "test")
      try loop.start()
      let endpoint = try #require(LocalEndpoint(path: directory + "/agent.sock", headers: [.workloadAPI]))
      let channel = GRPCChannel(endpoint, loop: loop, buffers: WorkBuffers())
      authority = SPIFFEAuthority(channel: channel, loop: loop)
    }

    deinit {
      loop.stop()
      loop.join()
      try? FileManager.default.removeItem(atPath: directory)
    }

    func startAgent() throws -> RunningProcess {
      let here = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      let protos = here.deletingLastPathComponent().deletingLastPathComponent().appending(
        path: "Sources/IstioAPI/proto")
      let process = try RunningProcess([
        GRPCEnvironment.python, here.appending(path: "Servers/agent.py").path, socket, protos.path,
        directory + "/state.json",
      ])
      try #require(process.waitForLine(containing: "serving", within: .seconds(60)) != nil, "\(process.errors)")
      return process
    }

    func write(_ state: [String: Any]) throws {
      try JSONSerialization.data(withJSONObject: state, options: .sortedKeys)
        .write(to: URL(fileURLWithPath: directory + "/state.json"), options: .atomic)
    }

    /// Has the agent give these identities, with certificates issued now.
    @discardableResult
    func give(_ identities: SPIFFEIdentity..., federated: [String: Certificate] = [:]) throws -> [Certificate] {
      let issued = try identities.map { try issuer.issue($0, from: .now, seconds: 3600) }
      let root = Data(try issuer.root.der()).base64EncodedString()
      try write([
        "svids": try issued.map { certificate in
          [
            "id": certificate.identity?.description ?? "", "bundle": root,
            "svid": Data(try certificate.leaf.der()).base64EncodedString(),
            "key": Data(try certificate.privateKey.der()).base64EncodedString(),
          ]
        },
        "federated": try federated.mapValues { Data(try $0.der()).base64EncodedString() },
      ])
      return issued.map(\.leaf)
    }
  }

  private let web = SPIFFEIdentity.account("web")
  private let mail = SPIFFEIdentity.account("mail")

  @Test("gives the certificate of the identity asked for, with every bundle, and refuses one that it does not have")
  func issues() async throws {
    let bench = try Bench()
    let partner = try TestIssuer()
    let leaves = try bench.give(mail, web, federated: ["spiffe://partner.test": partner.root])
    let agent = try bench.startAgent()
    defer { agent.kill() }
    bench.authority.start {}
    let certificate = try await bench.authority.issue(web)
    #expect(certificate.leaf == leaves[1])
    #expect(certificate.roots == [bench.issuer.root])
    #expect(certificate.federatedRoots == ["partner.test": [partner.root]])
    await #expect(throws: IdentityError.identityNotGiven(.account("nobody"), given: 2)) {
      try await bench.authority.issue(.account("nobody"))
    }
    #expect(!agent.lines.contains("refused"), "the security header is there")
  }

  @Test("rotation comes over the stream: the store has the new certificate without asking, and loses one that goes")
  func rotates() async throws {
    let bench = try Bench()
    let first = try bench.give(web, mail)
    let agent = try bench.startAgent()
    defer { agent.kill() }
    let store = CertificateStore(authority: bench.authority)
    bench.authority.start { store.refresh() }
    let deadline = ContinuousClock.now + .seconds(90)
    #expect(try await store.credentials(for: web, until: deadline).certificate.leaf == first[0])
    #expect(try await store.credentials(for: mail, until: deadline).certificate.leaf == first[1])
    let second = try bench.give(web)
    try await eventually("the rotated certificate is in use") { store.current(web)?.certificate.leaf == second[0] }
    try await eventually("the withdrawn one is not") { store.current(mail) == nil }
  }

  @Test("an agent that is away or refuses is told by name; a connection waits for it, and gets its certificate later")
  func away() async throws {
    let bench = try Bench()
    bench.authority.start {}
    let error = await #expect(throws: IdentityError.self) { try await bench.authority.issue(web) }
    #expect(error?.code == "IDENTITY_AGENT_UNAVAILABLE")
    let store = CertificateStore(authority: bench.authority)
    bench.authority.start { store.refresh() }
    async let waiting = store.credentials(for: web, until: .now + .seconds(60))
    try bench.write(["error": "PERMISSION_DENIED"])
    let agent = try bench.startAgent()
    defer { agent.kill() }
    try await eventually("it asks") { agent.lines.contains("stream") }
    let leaves = try bench.give(web)
    #expect(try await waiting.certificate.leaf == leaves[0])
  }

  @Test("a stream that ends is opened again; what was given serves on meanwhile")
  func reconnects() async throws {
    let bench = try Bench()
    let leaves = try bench.give(web)
    let agent = try bench.startAgent()
    bench.authority.start {}
    #expect(try await bench.authority.issue(web).leaf == leaves[0])
    agent.kill()
    #expect(try await bench.authority.issue(web).leaf == leaves[0])
    let renewed = try bench.give(web)
    try? FileManager.default.removeItem(atPath: bench.socket)
    let successor = try bench.startAgent()
    defer { successor.kill() }
    for _ in 0..<3000 {
      if try await bench.authority.issue(web).leaf == renewed[0] { return }
      try await Task.sleep(for: .milliseconds(20))
    }
    Issue.record("the certificate of the new stream is given")
  }
}
