import COpenSSL
import Foundation
import Testing
import Vocabulary

@testable import TLS

@Suite("Handshakes with the openssl command over loopback")
struct InteroperabilityTests {
  let authority: TestAuthority
  let shop: WorkloadCertificate
  let bank: WorkloadCertificate

  init() throws {
    authority = try TestAuthority()
    shop = try authority.issue(SPIFFEIdentity.shop.description)
    bank = try authority.issue(SPIFFEIdentity.bank.description)
  }

  /// The files that the command wants, in a directory that goes with this object.
  final class Files {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("tls-\(UUID().uuidString)")

    init(_ certificate: WorkloadCertificate, root: Certificate) throws {
      try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
      try write("leaf.pem", certificate.leaf.pem())
      try write("chain.pem", certificate.intermediates.map { try $0.pem() }.joined())
      try write("key.pem", certificate.privateKey.pem())
      try write("root.pem", root.pem())
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    private func write(_ name: String, _ text: String) throws {
      try Data(text.utf8).write(to: directory.appendingPathComponent(name))
    }

    var arguments: [String] {
      [("-cert", "leaf.pem"), ("-cert_chain", "chain.pem"), ("-key", "key.pem"), ("-CAfile", "root.pem")]
        .flatMap { [$0.0, directory.appendingPathComponent($0.1).path] }
    }
  }

  /// One TCP socket on loopback, closed with this object; nothing on it waits longer than ten seconds.
  final class Socket {
    let raw: CInt

    init(adopting raw: CInt) {
      self.raw = raw
      var patience = timeval(tv_sec: 10, tv_usec: 0)
      setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    }

    convenience init() throws {
      let raw = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
      try #require(raw >= 0)
      self.init(adopting: raw)
    }

    deinit { close(raw) }

    private static func address(_ port: UInt16) -> sockaddr_in {
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
      return address
    }

    private static func with(_ address: inout sockaddr_in, _ body: (UnsafeMutablePointer<sockaddr>) -> CInt) -> CInt {
      withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1, body)
      }
    }

    func listen() throws -> UInt16 {
      var address = Self.address(0)
      var size = socklen_t(MemoryLayout<sockaddr_in>.size)
      try #require(Self.with(&address) { bind(raw, $0, size) } == 0)
      try #require(Glibc.listen(raw, 1) == 0)
      try #require(Self.with(&address) { getsockname(raw, $0, &size) } == 0)
      return UInt16(bigEndian: address.sin_port)
    }

    func accept() throws -> Socket {
      let accepted = Glibc.accept(raw, nil, nil)
      try #require(accepted >= 0)
      return Socket(adopting: accepted)
    }

    func connect(to port: UInt16) throws {
      var address = Self.address(port)
      try #require(Self.with(&address) { Glibc.connect(raw, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) } == 0)
    }
  }

  private func serve(_ files: Files, as server: WorkloadCertificate) throws -> (TLSError?, SPIFFEIdentity?, String) {
    let listener = try Socket()
    let port = try listener.listen()
    let tool = try OpenSSLTool.Running(
      ["s_client", "-connect", "127.0.0.1:\(port)", "-alpn", "h2", "-verify_return_error", "-noservername"]
        + files.arguments)
    let connection = try listener.accept()
    let ssl = try TLSContext(role: .server, certificate: server).makeSSL()
    defer { SSL_free(ssl) }
    SSL_set_fd(ssl, connection.raw)
    let result = SSL_do_handshake(ssl)
    let error = result == 1 ? nil : TLSError.handshake(ssl, result: result)
    if result == 1 {
      _ = try tool.waitFor { $0.contains("Verify return code") ? true : nil }
      tool.closeInput()
    }
    _ = try tool.waitForExit()
    return (error, TLSPeer.identity(of: ssl), tool.output)
  }

  @Test("s_client is accepted as the workload whose certificate it presents")
  func clientTool() throws {
    let (error, identity, output) = try serve(Files(shop, root: authority.root), as: bank)
    #expect(error == nil)
    #expect(identity == .shop)
    #expect(output.contains("ALPN protocol: h2"))
    #expect(output.contains("New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384"))
  }

  @Test("s_client with a certificate of another mesh is refused")
  func foreignClientTool() throws {
    let stranger = try TestAuthority(name: "Stranger").issue(SPIFFEIdentity.shop.description)
    let (error, identity, output) = try serve(Files(stranger, root: authority.root), as: bank)
    #expect(error?.code == "TLS_PEER_UNTRUSTED")
    #expect(identity == nil)
    #expect(output.contains("alert unknown ca"))
  }

  private func dial(_ files: Files, expecting: [SPIFFEIdentity]) throws -> (TLSError?, SPIFFEIdentity?) {
    let tool = try OpenSSLTool.Running(
      ["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-alpn", "h2", "-Verify", "4", "-verify_return_error"]
        + files.arguments)
    let port = try tool.waitFor { output in
      output.split(separator: "\n").first { $0.hasPrefix("ACCEPT 127.0.0.1:") }.flatMap { UInt16($0.dropFirst(17)) }
    }
    let connection = try Socket()
    try connection.connect(to: port)
    let ssl = try TLSContext(role: .client, certificate: shop).makeSSL(expecting: expecting)
    defer { SSL_free(ssl) }
    SSL_set_fd(ssl, connection.raw)
    let result = SSL_do_handshake(ssl)
    return (result == 1 ? nil : TLSError.handshake(ssl, result: result), TLSPeer.identity(of: ssl))
  }

  @Test("s_server is accepted by the client that expects it")
  func serverTool() throws {
    let (error, identity) = try dial(Files(bank, root: authority.root), expecting: [.bank])
    #expect(error == nil)
    #expect(identity == .bank)
  }

  @Test("s_server is refused by a client that expects somebody else")
  func wrongServerTool() throws {
    let (error, identity) = try dial(Files(bank, root: authority.root), expecting: [.shop])
    #expect(error?.code == "TLS_PEER_WRONG_IDENTITY")
    #expect(identity == nil)
  }
}
