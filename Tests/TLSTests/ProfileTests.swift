import COpenSSL
import Testing
import Vocabulary

@testable import TLS

@Suite("TLS profiles")
struct ProfileTests {
  private let authority: TestAuthority
  init() throws { authority = try TestAuthority() }

  private func handshake(_ client: TLSProfile, _ server: TLSProfile) throws -> MemoryHandshake {
    let certificate = try authority.issue(SPIFFEIdentity.shop.description)
    let handshake = try MemoryHandshake(
      client: TLSContext(role: .client, certificate: certificate, settings: TLSSettings(profile: client))
        .makeSSL(expecting: [.shop]),
      server: TLSContext(role: .server, certificate: certificate, settings: TLSSettings(profile: server)).makeSSL())
    handshake.run()
    return handshake
  }

  @Test("TLS 1.3 is spoken also where 1.2 is allowed, with the first suite")
  func prefersTLS13() throws {
    let both = TLSProfile(allowsTLS12: true)
    let handshake = try handshake(both, both)
    #expect(handshake.isEstablished)
    #expect(String(cString: SSL_get_version(handshake.client)) == "TLSv1.3")
    #expect(String(cString: SSL_CIPHER_get_name(SSL_get_current_cipher(handshake.client))) == "TLS_AES_256_GCM_SHA384")
  }

  @Test("a peer that has TLS 1.2 alone is served where that is allowed, and nowhere else", arguments: [true, false])
  func tls12(_ isAllowed: Bool) throws {
    let certificate = try authority.issue(SPIFFEIdentity.shop.description)
    let client = try TLSContext(
      role: .client, certificate: certificate, settings: TLSSettings(profile: TLSProfile(allowsTLS12: true))
    ).makeSSL(expecting: [.shop])
    SSL_ctrl(client, SSL_CTRL_SET_MAX_PROTO_VERSION, Int(TLS1_2_VERSION), nil)
    let handshake = try MemoryHandshake(
      client: client,
      server: TLSContext(
        role: .server, certificate: certificate, settings: TLSSettings(profile: TLSProfile(allowsTLS12: isAllowed))
      ).makeSSL())
    handshake.run()
    #expect(handshake.isEstablished == isAllowed)
    if isAllowed {
      #expect(TLSPeer.identity(of: handshake.server) == .shop, "the client is verified there too")
      #expect(
        String(cString: SSL_CIPHER_get_name(SSL_get_current_cipher(handshake.client)))
          == "ECDHE-ECDSA-AES256-GCM-SHA384")
    } else {
      #expect(handshake.serverError?.code == "TLS_VERSION")
    }
  }

  @Test("approved curves exclude X25519, and get along with everybody")
  func approvedCurves() throws {
    let handshake = try handshake(TLSProfile(keyExchange: .approvedCurves), .standard)
    #expect(handshake.isEstablished)
    #expect(SSL_ctrl(handshake.client, SSL_CTRL_GET_NEGOTIATED_GROUP, 0, nil) == Int(NID_X9_62_prime256v1))
  }

  @Test("the hybrid is spoken where libssl has it, and refused by name where it has not")
  func hybrid() throws {
    let hybrid = TLSProfile(keyExchange: .hybrid, allowsTLS12: true)
    if OPENSSL_version_major() > 3 || OPENSSL_version_major() == 3 && OPENSSL_version_minor() >= 5 {
      try hybrid.check()
      #expect(try handshake(hybrid, hybrid).isEstablished)
      #expect(try handshake(hybrid, .init(keyExchange: .approvedCurves)).isEstablished == false)
    } else {
      let error = #expect(throws: TLSError.self) { try hybrid.check() }
      #expect(error?.code == "TLS_PQC_UNAVAILABLE")
      #expect(error?.summary.contains("OpenSSL 3.") == true)
      #expect(error?.remedy?.contains("3.5") == true)
      #expect(throws: TLSError.self) { try handshake(hybrid, hybrid) }
    }
  }
}

@Suite("Federation")
struct FederationTests {
  private let ours: TestAuthority
  private let theirs: TestAuthority
  private let partner = SPIFFEIdentity(trustDomain: "partner.test", namespace: "shop", serviceAccount: "web")

  init() throws {
    ours = try TestAuthority(name: "Ours")
    theirs = try TestAuthority(name: "Theirs")
  }

  private func certificate(
    _ authority: TestAuthority, _ uris: String..., federated: [String: [Certificate]]
  ) throws -> WorkloadCertificate {
    let key = try PrivateKey.generate()
    let leaf = try TestAuthority.leaf(uris).signed(for: key, by: (authority.intermediate, authority.intermediateKey))
    return try WorkloadCertificate(
      chain: [leaf, authority.intermediate], privateKey: key, roots: [authority.root], federatedRoots: federated)
  }

  /// A client that trusts everybody dials one of ours that keeps the bundles apart.
  private func handshake(client uris: String..., signedBy authority: TestAuthority) throws -> MemoryHandshake {
    let key = try PrivateKey.generate()
    let leaf = try TestAuthority.leaf(uris).signed(for: key, by: (authority.intermediate, authority.intermediateKey))
    let client = try WorkloadCertificate(
      chain: [leaf, authority.intermediate], privateKey: key, roots: [theirs.root, ours.root])
    let server = try certificate(
      ours, SPIFFEIdentity.bank.description, federated: ["partner.test": [theirs.root]])
    let handshake = try MemoryHandshake(client: client, server: server, expecting: [.bank])
    handshake.run()
    return handshake
  }

  @Test("workloads of federated trust domains meet, each proven by its own domain's roots")
  func federated() throws {
    let handshake = try handshake(client: partner.description, signedBy: theirs)
    #expect(handshake.isEstablished, "\(String(describing: handshake.serverError))")
    #expect(TLSPeer.identity(of: handshake.server) == partner)
  }

  @Test("a client keeps the bundles apart too")
  func client() throws {
    let client = try certificate(
      ours, SPIFFEIdentity.shop.description, federated: ["partner.test": [theirs.root]])
    for (authority, isTrusted) in [(theirs, true), (ours, false)] {
      let key = try PrivateKey.generate()
      let leaf = try TestAuthority.leaf([partner.description])
        .signed(for: key, by: (authority.intermediate, authority.intermediateKey))
      let server = try WorkloadCertificate(
        chain: [leaf, authority.intermediate], privateKey: key, roots: [ours.root, theirs.root],
        federatedRoots: ["cluster.local": [ours.root]])
      let handshake = try MemoryHandshake(client: client, server: server, expecting: [partner])
      handshake.run()
      #expect(handshake.isEstablished == isTrusted, "\(String(describing: handshake.clientError))")
    }
  }

  @Test("a root of one domain vouches for nobody of another, in no place of the certificate")
  func impersonation() throws {
    let shop = SPIFFEIdentity.shop.description
    #expect(try handshake(client: shop, signedBy: theirs).serverError?.code == "TLS_PEER_UNTRUSTED")
    #expect(
      try handshake(client: partner.description, shop, signedBy: theirs).serverError?.code == "TLS_PEER_UNTRUSTED")
    #expect(try handshake(client: partner.description, signedBy: ours).serverError?.code == "TLS_PEER_UNTRUSTED")
  }

  @Test("a trust domain without a bundle stays out")
  func stranger() throws {
    let server = try certificate(ours, SPIFFEIdentity.bank.description, federated: [:])
    let client = try certificate(ours, partner.description, federated: [:])
    let handshake = try MemoryHandshake(client: client, server: server, expecting: [.bank])
    handshake.run()
    #expect(handshake.serverError?.code == "TLS_PEER_WRONG_TRUST_DOMAIN")
  }
}
