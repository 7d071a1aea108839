import COpenSSL
import Testing
import Vocabulary

@testable import TLS

@Suite("Revocation")
struct RevocationTests {
  private let authority: TestAuthority
  private let web: WorkloadCertificate
  private let vault: WorkloadCertificate

  init() throws {
    authority = try TestAuthority()
    web = try authority.issue(SPIFFEIdentity.shop.description)
    vault = try authority.issue(SPIFFEIdentity.bank.description)
  }

  /// `web` dials `vault`; both go by `list`.
  private func handshake(_ list: RevocationList?) throws -> (MemoryHandshake, RevocationState) {
    let state = RevocationState(list)
    let settings = TLSSettings(revocations: state)
    let handshake = try MemoryHandshake(
      client: TLSContext(role: .client, certificate: web, settings: settings).makeSSL(expecting: [.bank]),
      server: TLSContext(role: .server, certificate: vault, settings: settings).makeSSL())
    handshake.run()
    return (handshake, state)
  }

  private func list(_ revoked: Certificate...) throws -> RevocationList {
    var texts: [String] = []
    for certificate in revoked {
      texts.append(
        try certificate == authority.intermediate
          ? revocationList(of: authority.root, signedWith: authority.rootKey, certificate)
          : revocationList(of: authority.intermediate, signedWith: authority.intermediateKey, certificate))
    }
    return try RevocationList(Array(texts.joined().utf8))
  }

  @Test("a handshake goes through while nobody in it is revoked, also with lists of others in force")
  func others() throws {
    let other = try authority.issue("spiffe://cluster.local/ns/other/sa/x")
    for list in [nil, try RevocationList([]), try list(other.leaf)] {
      let (handshake, state) = try handshake(list)
      #expect(handshake.isEstablished)
      #expect(state.rejections(.source) == 0 && state.rejections(.destination) == 0)
      #expect(!TLSPeer.isRevoked(handshake.client) && !TLSPeer.isRevoked(handshake.server))
    }
  }

  @Test("a client refuses a revoked server, by its serial number, and counts it")
  func server() throws {
    let (handshake, state) = try handshake(list(vault.leaf))
    #expect(
      handshake.clientError
        == .peerRevoked(SPIFFEIdentity.bank.description, serialNumber: vault.leaf.serialNumber))
    #expect(state.rejections(.source) == 1 && state.rejections(.destination) == 0)
    #expect(handshake.serverError == .alertReceived(TLSAlert(number: 44)), "certificate_revoked")
  }

  @Test("a server refuses a revoked client, and counts it")
  func client() throws {
    let (handshake, state) = try handshake(list(web.leaf))
    #expect(
      handshake.serverError == .peerRevoked(SPIFFEIdentity.shop.description, serialNumber: web.leaf.serialNumber))
    #expect(state.rejections(.source) == 0 && state.rejections(.destination) == 1)
  }

  @Test("whoever is below a revoked intermediate is refused too")
  func intermediate() throws {
    let (handshake, _) = try handshake(list(authority.intermediate))
    #expect(handshake.clientError?.code == "TLS_PEER_REVOKED")
  }

  @Test("a list past its next update still counts")
  func stale() throws {
    let text = try revocationList(
      of: authority.intermediate, signedWith: authority.intermediateKey, vault.leaf, nextUpdate: -3600)
    #expect(try handshake(RevocationList(Array(text.utf8))).0.clientError?.code == "TLS_PEER_REVOKED")
  }

  @Test("a list that its issuer has not signed revokes nobody")
  func forged() throws {
    let text = try revocationList(of: authority.intermediate, signedWith: try PrivateKey.generate(), vault.leaf)
    #expect(try handshake(RevocationList(Array(text.utf8))).0.isEstablished)
  }

  @Test("a peer that was trusted is found revoked once the list says so, at either end")
  func later() throws {
    let (handshake, state) = try handshake(nil)
    #expect(handshake.isEstablished)
    state.replace(with: try list(vault.leaf))
    #expect(TLSPeer.isRevoked(handshake.client))
    #expect(!TLSPeer.isRevoked(handshake.server), "the client is not on it")
    state.replace(with: try list(web.leaf))
    #expect(TLSPeer.isRevoked(handshake.server))
  }

  @Test("a file holds lists in PEM with anything between, or one in DER")
  func forms() throws {
    let first = try revocationList(of: authority.intermediate, signedWith: authority.intermediateKey, web.leaf)
    let second = try revocationList(of: authority.root, signedWith: authority.rootKey)
    let bundle = try "\n" + first + authority.root.pem() + "words\n" + second
    #expect(try RevocationList(Array(bundle.utf8)).count == 2)
    let der = try #require(try PEMBlock.parse(Array(first.utf8), subject: "").first).bytes
    #expect(try RevocationList(der).count == 1)
    #expect(try RevocationList(Array(" \n".utf8)).count == 0)
    #expect(try RevocationList(Array(authority.root.pem().utf8)).count == 0, "other blocks are passed over")
  }

  @Test("a file with one list that cannot be read is refused as a whole")
  func malformed() throws {
    let good = try revocationList(of: authority.root, signedWith: authority.rootKey)
    let bad = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    for text in [good + bad, "garbage", bad, "-----BEGIN X509 CRL-----\nAAAA\n"] {
      let error = #expect(throws: TLSError.self) { try RevocationList(Array(text.utf8), subject: "crl.pem") }
      #expect(error?.code == "CRL_MALFORMED")
      #expect(error?.summary.hasPrefix("crl.pem: ") == true)
    }
    let der = try #require(try PEMBlock.parse(Array(good.utf8), subject: "").first).bytes
    #expect(throws: TLSError.self) { try RevocationList(der + [0]) }
  }
}
