import Foundation
import Testing
import Vocabulary

@testable import TestSupport

@Suite("Revocation", .requires(.root, .command("ip"), .command("openssl"), .grpc), .timeLimit(.minutes(3)))
struct RevocationTests {
  /// Puts a list of the fixture's authority into the place that the proxies watch.
  private func revoke(_ serials: [String], in mesh: ControlPlaneFixture) throws {
    let directory = mesh.directory
    let rows = serials.map { "R\t401231235959Z\t200101000000Z\t\($0.count % 2 == 0 ? $0 : "0" + $0)\tunknown\t/CN=x" }
    try rows.map { $0.uppercasedSerial + "\n" }.joined()
      .write(toFile: directory + "/index.txt", atomically: true, encoding: .utf8)
    try """
    [ca]
    default_ca = own
    [own]
    database = \(directory)/index.txt
    default_md = sha256
    default_crl_days = 30
    """.write(toFile: directory + "/ca.cnf", atomically: true, encoding: .utf8)
    let result = try Command.run([
      "openssl", "ca", "-gencrl", "-config", directory + "/ca.cnf", "-keyfile", directory + "/ca/ca-key.pem", "-cert",
      directory + "/ca/ca-cert.pem", "-out", directory + "/crl.new",
    ])
    try #require(result.succeeded, "\(result.errors)")
    try FileManager.default.createDirectory(atPath: directory + "/crl", withIntermediateDirectories: true)
    try Data(contentsOf: URL(fileURLWithPath: directory + "/crl.new"))
      .write(to: URL(fileURLWithPath: directory + "/crl/ca-crl.pem"), options: .atomic)
  }

  private func serial(of pod: MeshPod, in mesh: ControlPlaneFixture) throws -> String {
    let line = try #require(try mesh.controlPlane.waitForLine("signed \(pod.identity)", within: .seconds(20)))
    return try #require(line.split(separator: "=").last.map(String.init))
  }

  @Test(
    "a list that comes in closes the tunnels of whom it names at both ends, and keeps them out",
    arguments: [true, false])
  func live(_ ofClient: Bool) async throws {
    try await ControlPlaneFixture.with(environment: { ["CRL_PATH": $0 + "/crl/ca-crl.pem"] }) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let other = try await mesh.pod("other", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let application = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { withExtendedLifetime(application) {} }
      let address = server.address(port: 8080)
      let connection = try TCPClient(in: client.pod).connect(to: address)
      #expect(try connection.exchange("a") == "a")
      let second = try TCPClient(in: other.pod).connect(to: address)
      #expect(try second.exchange("a") == "a")

      try revoke([try serial(of: ofClient ? client : server, in: mesh)], in: mesh)
      #expect(try connection.end(within: .seconds(30)) != .none, "the open connection is closed")
      let reason = "connection closed: peer certificate revoked by CRL"
      let reporter = mesh.ztunnel(ofClient ? 1 : 0)
      let line = reporter.waitForLine("connection complete", reason)
      #expect(line?.contains("error_code=\"CERT_REVOKED\"") == true, "\(line ?? "")")
      #expect((try? TCPClient(in: client.pod).connect(to: address).exchange("b")) == nil, "and stays out")
      #expect(reporter.waitForLine("TLS_PEER_REVOKED") != nil)
      if ofClient { #expect(try second.exchange("b") == "b", "others go on") }

      // What cannot be read leaves the last good list in force.
      try "garbage".write(toFile: mesh.directory + "/crl/ca-crl.pem", atomically: true, encoding: .utf8)
      #expect(reporter.waitForLine("the revocation list was not taken", within: .seconds(30)) != nil)
      #expect((try? TCPClient(in: client.pod).connect(to: address).exchange("c")) == nil)
    }
  }
}

extension String {
  /// OpenSSL's index has serial numbers in upper case.
  fileprivate var uppercasedSerial: String {
    var columns = split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
    columns[3] = columns[3].uppercased()
    return columns.joined(separator: "\t")
  }
}
