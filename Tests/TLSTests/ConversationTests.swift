import COpenSSL
import Testing
import Vocabulary

@testable import TLS

@Suite("What is refused before certificates matter")
struct ConversationTests {
  let authority: TestAuthority
  let server: TLSContext
  let clients: TLSContext

  init() throws {
    authority = try TestAuthority()
    clients = try TLSContext(role: .client, certificate: authority.issue(SPIFFEIdentity.shop.description))
    server = try TLSContext(
      role: .server, certificate: authority.issue(SPIFFEIdentity.bank.description))
  }

  /// A client of libssl's own, with the certificate of a mesh workload and whatever else the test wants.
  private func client(_ configure: (OpaquePointer) -> Void) throws -> OpaquePointer {
    let client = try clients.makeSSL(expecting: [.bank])
    configure(client)
    return client
  }

  private func run(_ configure: (OpaquePointer) -> Void) throws -> MemoryHandshake {
    let handshake = try MemoryHandshake(client: client(configure), server: server.makeSSL())
    handshake.run()
    return handshake
  }

  @Test(
    "a client that offers protocols without h2 gets no_application_protocol", arguments: [["http/1.1"], ["h2c", "h"]])
  func otherProtocols(names: [String]) throws {
    let handshake = try run { client in
      let offer = names.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
      #expect(SSL_set_alpn_protos(client, offer, CUnsignedInt(offer.count)) == 0)
    }
    #expect(handshake.serverError == .noCommonProtocol)
    #expect(handshake.clientError == .alertReceived(TLSAlert(number: 120)))
  }

  @Test("h2 is chosen wherever it stands in the client's list")
  func amongOthers() throws {
    let handshake = try run { client in
      let offer = [UInt8](arrayLiteral: 8) + Array("http/1.1".utf8) + [2] + Array("h2".utf8)
      #expect(SSL_set_alpn_protos(client, offer, CUnsignedInt(offer.count)) == 0)
    }
    #expect(handshake.isEstablished)
    #expect(TLSPeer.negotiatedHTTP2(handshake.client))
  }

  @Test("a client without any ALPN is accepted")
  func withoutProtocols() throws {
    let handshake = try run { client in #expect(SSL_set_alpn_protos(client, nil, 0) == 0) }
    #expect(handshake.isEstablished)
    #expect(!TLSPeer.negotiatedHTTP2(handshake.server))
  }

  @Test("a client of TLS 1.2 is refused with protocol_version")
  func oldVersion() throws {
    let handshake = try run { client in
      #expect(SSL_ctrl(client, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(TLS1_2_VERSION), nil) == 1)
      #expect(SSL_ctrl(client, SSL_CTRL_SET_MAX_PROTO_VERSION, Int(TLS1_2_VERSION), nil) == 1)
    }
    #expect(handshake.serverError?.code == "TLS_VERSION")
    #expect(handshake.clientError == .alertReceived(TLSAlert(number: 70)))
  }

  @Test("a client that offers only ChaCha20 finds no suite in common")
  func otherSuite() throws {
    let handshake = try run { client in
      #expect(SSL_set_ciphersuites(client, "TLS_CHACHA20_POLY1305_SHA256") == 1)
    }
    #expect(handshake.serverError?.code == "TLS_PROTOCOL")
    #expect(!handshake.isEstablished)
  }

  @Test(
    "bytes that are not TLS are called so",
    arguments: [
      "GET / HTTP/1.1\r\nHost: bank\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n",
      "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\u{9}", "CONNECT bank:443 HTTP/1.1\r\n\r\n",
    ])
  func plaintext(text: String) throws {
    let handshake = try MemoryHandshake(client: client { _ in }, server: server.makeSSL())
    handshake.sendToServer(Array(text.utf8))
    #expect(handshake.serverError?.code == "TLS_NOT_TLS")
    #expect(ERR_peek_error() == 0)
  }

  @Test("a server survives a corrupted client hello of any kind", arguments: 1...8 as ClosedRange<UInt64>)
  func corruptedHello(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let hello = try clientHello()
    for _ in 0..<100 {
      var bytes = hello
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      bytes.removeLast(Int.random(in: 0...bytes.count / 2, using: &random))
      let handshake = try MemoryHandshake(client: client { _ in }, server: server.makeSSL())
      handshake.sendToServer(bytes)
      #expect(SSL_is_init_finished(handshake.server) == 0)
      #expect(TLSPeer.identity(of: handshake.server) == nil)
    }
  }

  private func clientHello() throws -> [UInt8] {
    let client = try client { _ in }
    defer { SSL_free(client) }
    let output: OpaquePointer = BIO_new(BIO_s_mem())
    SSL_set_bio(client, BIO_new(BIO_s_mem()), output)
    SSL_do_handshake(client)
    var bytes = [UInt8](repeating: 0, count: BIO_ctrl_pending(output))
    #expect(BIO_read(output, &bytes, CInt(bytes.count)) == bytes.count)
    return bytes
  }

  @Test("a peer that ends the stream in the middle of a handshake is not one that closed properly")
  func truncated() throws {
    let ssl = try server.makeSSL()
    defer { SSL_free(ssl) }
    // A memory BIO that is empty reports the end of the stream unless told otherwise.
    let input: OpaquePointer = BIO_new(BIO_s_mem())
    BIO_ctrl(input, BIO_C_SET_BUF_MEM_EOF_RETURN, 0, nil)
    SSL_set_bio(ssl, input, BIO_new(BIO_s_mem()))
    let result = SSL_do_handshake(ssl)
    #expect(TLSError.handshake(ssl, result: result) == .closed(properly: false))
  }

  @Test("close_notify is a proper close")
  func properClose() throws {
    let handshake = try run { _ in }
    #expect(handshake.isEstablished)
    SSL_shutdown(handshake.client)
    handshake.run()
    #expect(handshake.serverError == .closed(properly: true))
  }
}

/// A reproducible source of randomness (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var word = state
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return word ^ (word >> 31)
  }
}
