import COpenSSL
import Testing
import Vocabulary

@testable import TLS

@Suite("Handshakes between mesh peers")
struct HandshakeTests {
  let authority: TestAuthority
  let shop: WorkloadCertificate
  let bank: WorkloadCertificate

  init() throws {
    authority = try TestAuthority()
    shop = try authority.issue(SPIFFEIdentity.shop.description)
    bank = try authority.issue(SPIFFEIdentity.bank.description)
  }

  private func handshake(
    client: WorkloadCertificate? = nil, server: WorkloadCertificate? = nil, expecting: [SPIFFEIdentity] = [.bank]
  ) throws -> MemoryHandshake {
    let handshake = try MemoryHandshake(client: client ?? shop, server: server ?? bank, expecting: expecting)
    handshake.run()
    return handshake
  }

  @Test("two workloads of one mesh agree and learn each other's identity")
  func success() throws {
    let handshake = try handshake()
    #expect(handshake.isEstablished)
    #expect(TLSPeer.identity(of: handshake.client) == .bank)
    #expect(TLSPeer.identity(of: handshake.server) == .shop)
    #expect(TLSPeer.certificate(of: handshake.server) == shop.leaf)
  }

  @Test("what is agreed on is TLS 1.3, AES-256-GCM, X25519 and h2")
  func profile() throws {
    let handshake = try handshake()
    #expect(SSL_version(handshake.client) == TLS1_3_VERSION)
    #expect(String(cString: SSL_CIPHER_get_name(SSL_get_current_cipher(handshake.client))) == "TLS_AES_256_GCM_SHA384")
    #expect(SSL_ctrl(handshake.client, SSL_CTRL_GET_NEGOTIATED_GROUP, 0, nil) == Int(NID_X25519))
    #expect(TLSPeer.negotiatedHTTP2(handshake.client))
    #expect(TLSPeer.negotiatedHTTP2(handshake.server))
  }

  @Test("the client sends no server name, and nothing can be resumed")
  func noNameNoTicket() throws {
    let handshake = try handshake()
    #expect(SSL_get_servername(handshake.server, TLSEXT_NAMETYPE_host_name) == nil)
    #expect(SSL_session_reused(handshake.client) == 0)
    #expect(SSL_SESSION_has_ticket(SSL_get_session(handshake.client)) == 0)
  }

  @Test("leaf and intermediate are presented, the root is not")
  func presentedChain() throws {
    let handshake = try handshake()
    let chain = SSL_get_peer_cert_chain(handshake.client)
    #expect(OPENSSL_sk_num(chain) == 2)
  }

  @Test("the root is not presented either where it signed the leaf itself")
  func presentedLeaf() throws {
    let key = try PrivateKey.generate()
    let leaf = try TestAuthority.leaf([SPIFFEIdentity.bank.description]).signed(
      for: key, by: (authority.root, authority.rootKey))
    let server = try WorkloadCertificate(chain: [leaf], privateKey: key, roots: [authority.root])
    let handshake = try handshake(server: server)
    #expect(handshake.isEstablished)
    #expect(OPENSSL_sk_num(SSL_get_peer_cert_chain(handshake.client)) == 1)
  }

  @Test("the server names the roots it trusts")
  func certificateAuthorities() throws {
    let handshake = try handshake()
    let names = SSL_get0_peer_CA_list(handshake.client)
    #expect(OPENSSL_sk_num(names) == 1)
    let name = OPENSSL_sk_value(names, 0).map { Certificate.line(OpaquePointer($0)) }
    #expect(name == authority.root.subject)
  }

  @Test("no identity is known before the handshake is finished")
  func noEarlyIdentity() throws {
    let handshake = try MemoryHandshake(client: shop, server: bank, expecting: [.bank])
    #expect(TLSPeer.identity(of: handshake.client) == nil)
    #expect(TLSPeer.identity(of: handshake.server) == nil)
    #expect(TLSPeer.certificate(of: handshake.client) == nil)
  }

  // MARK: The client's demands

  @Test("a client accepts a server that is any one of those it expects")
  func anyExpected() throws {
    #expect(try handshake(expecting: [.shop, .bank]).isEstablished)
  }

  @Test("a client accepts a server by its second SPIFFE id, and calls it by its first")
  func secondName() throws {
    let server = try authority.issue(
      "https://example.test/", "spiffe://cluster.local/ns/other/sa/other", SPIFFEIdentity.bank.description)
    let handshake = try handshake(server: server)
    #expect(handshake.isEstablished)
    #expect(TLSPeer.identity(of: handshake.client)?.namespace == "other")
  }

  @Test(
    "a client refuses a server that is somebody else",
    arguments: [
      [SPIFFEIdentity.shop],
      [],
      [SPIFFEIdentity(trustDomain: "other.domain", namespace: "bank", serviceAccount: "vault")],
      [SPIFFEIdentity(trustDomain: "cluster.local", namespace: "bank", serviceAccount: "vault2")],
      [SPIFFEIdentity(trustDomain: "cluster.local", namespace: "bank", serviceAccount: "")],
    ])
  func wrongName(expected: [SPIFFEIdentity]) throws {
    let handshake = try handshake(expecting: expected)
    #expect(
      handshake.clientError
        == .peerWrongIdentity(expected: expected, presented: [SPIFFEIdentity.bank.description]))
    #expect(handshake.serverError == .alertReceived(TLSAlert(number: 42)))
    #expect(TLSPeer.identity(of: handshake.client) == nil)
  }

  @Test("the refusal names who was expected and who answered")
  func wrongNameText() throws {
    let error = try handshake(expecting: [.shop]).clientError
    #expect(
      error?.summary == "identity verification error: peer did not present the expected SAN "
        + "(spiffe://cluster.local/ns/shop/sa/web), got spiffe://cluster.local/ns/bank/sa/vault")
  }

  // MARK: The server's demands

  @Test("a server refuses a client of another trust domain")
  func wrongTrustDomain() throws {
    let stranger = try authority.issue("spiffe://other.domain/ns/shop/sa/web")
    let handshake = try handshake(client: stranger)
    #expect(
      handshake.serverError
        == .peerWrongTrustDomain(
          expected: "cluster.local", presented: ["spiffe://other.domain/ns/shop/sa/web"]))
    #expect(handshake.clientError == .alertReceived(TLSAlert(number: 42)))
    #expect(
      handshake.serverError?.summary == "identity verification error: peer did not present the expected trustdomain "
        + "(cluster.local), got spiffe://other.domain/ns/shop/sa/web")
  }

  @Test("a client's foreign first identity is not hidden by a second one of our domain")
  func foreignFirst() throws {
    let client = try authority.issue("spiffe://other.domain/ns/a/sa/b", SPIFFEIdentity.shop.description)
    #expect(try handshake(client: client).serverError?.code == "TLS_PEER_WRONG_TRUST_DOMAIN")
  }

  @Test("a client whose first URI is no SPIFFE id is known by the first that is one")
  func foreignURIFirst() throws {
    let client = try authority.issue("https://shop.test/", SPIFFEIdentity.shop.description)
    let handshake = try handshake(client: client)
    #expect(handshake.isEstablished)
    #expect(TLSPeer.identity(of: handshake.server) == .shop)
  }

  @Test("a server refuses a client without a certificate")
  func noCertificate() throws {
    let context = SSL_CTX_new(TLS_client_method())
    defer { SSL_CTX_free(context) }
    let client = try #require(SSL_new(context))
    SSL_set_connect_state(client)
    let handshake = try MemoryHandshake(
      client: client, server: TLSContext(role: .server, certificate: bank).makeSSL())
    handshake.run()
    #expect(handshake.serverError == .peerNoCertificate)
  }

  @Test(
    "a server refuses a client whose certificate has no SPIFFE id",
    arguments: [[], ["https://shop.test/"], ["spiffe://cluster.local/ns/shop"], ["SPIFFE://cluster.local/ns/a/sa/b"]])
  func noIdentity(uris: [String]) throws {
    let hostile = try PresentedCertificate(TestAuthority.leaf(uris), from: authority)
    let handshake = try hostile.handshakeAsClient(of: shop, server: bank)
    #expect(handshake.serverError == .peerWrongTrustDomain(expected: "cluster.local", presented: uris))
  }

  @Test(
    "a server refuses a client whose certificate holds names that no URI may hold",
    arguments: [
      "spiffe://cluster.local/ns/shop/sa/web\0.evil", "spiffe://cluster.local/ns/shop/sa/web\n",
      "spiffe://cluster.local/ns/shop/sa/wéb", "spiffe://cluster.local/ns/sh op/sa/web",
      "spiffe://cluster.local/ns/shop/sa/" + String(repeating: "a", count: 2048),
    ])
  func hostileName(uri: String) throws {
    let hostile = try PresentedCertificate(TestAuthority.leaf([uri]), from: authority)
    let handshake = try hostile.handshakeAsClient(of: shop, server: bank)
    #expect(handshake.serverError?.code == "TLS_PEER_MALFORMED")
    #expect(!handshake.isEstablished)
  }

  @Test("a server refuses a client whose certificate has more names than it will read")
  func tooManyNames() throws {
    let names = (0...64).map { "spiffe://cluster.local/ns/shop/sa/web\($0)" }
    let hostile = try PresentedCertificate(TestAuthority.leaf(names), from: authority)
    let handshake = try hostile.handshakeAsClient(of: shop, server: bank)
    #expect(handshake.serverError?.code == "TLS_PEER_MALFORMED")
  }

  // MARK: The chain, in both directions

  /// A flaw of a peer's certificate, and what it must be called.
  enum Flaw: CaseIterable, CustomTestStringConvertible {
    case expired, notYetValid, selfSigned, foreignRoot, wrongUsage, signedByLeaf

    var testDescription: String { "\(self)" }

    var code: String {
      switch self {
      case .expired: "TLS_PEER_EXPIRED"
      case .notYetValid: "TLS_PEER_NOT_YET_VALID"
      case .selfSigned, .foreignRoot, .signedByLeaf: "TLS_PEER_UNTRUSTED"
      case .wrongUsage: "TLS_PEER_WRONG_USAGE"
      }
    }

    var alert: UInt8 {
      switch self {
      case .expired: 45
      case .notYetValid: 42
      case .selfSigned, .foreignRoot, .signedByLeaf: 48
      case .wrongUsage: 43
      }
    }

    func certificate(
      _ identity: SPIFFEIdentity, from authority: TestAuthority, usableAs usage: CertificateTemplate.Usage
    ) throws -> WorkloadCertificate {
      var template = TestAuthority.leaf([identity.description])
      switch self {
      case .expired: template.notAfter = .now.advanced(bySeconds: -5)
      case .notYetValid: template.notBefore = .now.advanced(bySeconds: 600)
      case .wrongUsage: template.usages = [usage]
      case .foreignRoot:
        return try TestAuthority(name: "Stranger").issue(template, trusting: [authority.root])
      case .selfSigned:
        let key = try PrivateKey.generate()
        return try WorkloadCertificate(
          chain: [template.signed(for: key)], privateKey: key, roots: [authority.root])
      case .signedByLeaf:
        let signer = try authority.issue(SPIFFEIdentity.shop.description)
        let key = try PrivateKey.generate()
        let leaf = try template.signed(for: key, by: (signer.leaf, signer.privateKey))
        return try WorkloadCertificate(
          chain: [leaf, signer.leaf, authority.intermediate], privateKey: key, roots: [authority.root])
      }
      return try authority.issue(template)
    }
  }

  @Test("a client refuses a flawed server certificate, and says why", arguments: Flaw.allCases)
  func flawedServer(flaw: Flaw) throws {
    let server = try flaw.certificate(.bank, from: authority, usableAs: .clientAuthentication)
    let handshake = try handshake(server: server)
    #expect(handshake.clientError?.code == flaw.code)
    #expect(!handshake.isEstablished)
  }

  @Test("a server refuses a flawed client certificate, and says why", arguments: Flaw.allCases)
  func flawedClient(flaw: Flaw) throws {
    let client = try flaw.certificate(.shop, from: authority, usableAs: .serverAuthentication)
    let handshake = try handshake(client: client)
    #expect(handshake.serverError?.code == flaw.code)
    #expect(TLSPeer.identity(of: handshake.server) == nil)
  }

  @Test("an end that presents an expired certificate is told so by the alert")
  func expiredAlert() throws {
    let client = try Flaw.expired.certificate(.shop, from: authority, usableAs: .serverAuthentication)
    let handshake = try handshake(client: client)
    #expect(handshake.clientError == .alertReceived(TLSAlert(number: 45)))
    #expect(handshake.clientError?.summary.contains("certificate_expired") == true)
  }

  @Test("a certificate without any extended key usage is good for both ends")
  func noUsage() throws {
    var template = TestAuthority.leaf([SPIFFEIdentity.shop.description])
    template.usages = []
    #expect(try handshake(client: authority.issue(template)).isEstablished)
  }

  @Test("a trust anchor that is itself an intermediate is enough")
  func intermediateAnchor() throws {
    let client = try authority.issue(SPIFFEIdentity.shop.description, trusting: [authority.intermediate])
    let server = try authority.issue(SPIFFEIdentity.bank.description, trusting: [authority.intermediate])
    #expect(try handshake(client: client, server: server).isEstablished)
  }

  @Test("both roots of a bundle are trusted, as while a root is replaced")
  func twoRoots() throws {
    let successor = try TestAuthority(name: "Successor")
    let roots = [authority.root, successor.root]
    let client = try successor.issue(SPIFFEIdentity.shop.description, trusting: roots)
    let server = try authority.issue(SPIFFEIdentity.bank.description, trusting: roots)
    #expect(try handshake(client: client, server: server).isEstablished)
  }

  @Test("a context of a certificate without a SPIFFE id is refused", arguments: TLSContext.Role.allCases)
  func ownIdentity(role: TLSContext.Role) throws {
    let certificate = try authority.issue("https://shop.test/")
    #expect(throws: TLSError.ownIdentityMissing("")) { try TLSContext(role: role, certificate: certificate) }
  }

  @Test("connections outlive their context")
  func contextFreed() throws {
    var context: TLSContext? = try TLSContext(role: .client, certificate: shop)
    let client = try #require(context).makeSSL(expecting: [.bank])
    context = nil
    let handshake = try MemoryHandshake(
      client: client, server: TLSContext(role: .server, certificate: bank).makeSSL())
    handshake.run()
    #expect(handshake.isEstablished)
  }
}

/// A certificate that our own parser would refuse, presented by a client all the same.
struct PresentedCertificate {
  let template: CertificateTemplate
  let authority: TestAuthority

  init(_ template: CertificateTemplate, from authority: TestAuthority) throws {
    self.template = template
    self.authority = authority
  }

  func handshakeAsClient(
    of honest: WorkloadCertificate, server: WorkloadCertificate
  ) throws -> MemoryHandshake {
    let leaf = try template.signedX509(
      for: honest.privateKey, by: (authority.intermediate, authority.intermediateKey))
    defer { X509_free(leaf) }
    let client = try TLSContext(role: .client, certificate: honest).makeSSL(expecting: [.bank])
    #expect(SSL_use_certificate(client, leaf) == 1)
    let handshake = try MemoryHandshake(
      client: client, server: TLSContext(role: .server, certificate: server).makeSSL())
    handshake.run()
    return handshake
  }
}
