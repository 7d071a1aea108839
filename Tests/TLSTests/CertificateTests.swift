import Testing
import Vocabulary

@testable import TLS

@Suite("Certificates and keys")
struct CertificateTests {
  let authority: TestAuthority

  init() throws {
    authority = try TestAuthority()
  }

  @Test("a certificate survives the way through PEM")
  func roundTrip() throws {
    let leaf = try authority.issue(SPIFFEIdentity.shop.description, "https://shop.test/").leaf
    let parsed = try Certificate.parse(pem: "some prose\n" + leaf.pem() + authority.intermediate.pem())
    #expect(parsed == [leaf, authority.intermediate])
    #expect(parsed.first?.serialNumber == leaf.serialNumber)
    #expect(parsed.first?.uris == [SPIFFEIdentity.shop.description, "https://shop.test/"])
    #expect(parsed.first?.identities == [.shop])
    #expect(parsed.first?.isAuthority == false)
    #expect(parsed.last?.isAuthority == true)
    #expect(parsed.last?.isSelfSigned == false)
    #expect(authority.root.isSelfSigned)
    #expect(authority.root.subject == "/O=Test/CN=Root")
  }

  @Test("validity includes both ends and nothing else")
  func validity() throws {
    var template = TestAuthority.leaf(["spiffe://a/ns/b/sa/c"])
    template.notBefore = Timestamp(secondsSinceEpoch: 1_000_000_000)
    template.notAfter = Timestamp(secondsSinceEpoch: 2_000_000_000)
    let leaf = try authority.issue(template).leaf
    #expect(leaf.notBefore == template.notBefore)
    #expect(leaf.notAfter == template.notAfter)
    #expect(!leaf.isValid(at: template.notBefore.advanced(bySeconds: -1)))
    #expect(leaf.isValid(at: template.notBefore))
    #expect(leaf.isValid(at: template.notAfter))
    #expect(!leaf.isValid(at: template.notAfter.advanced(bySeconds: 1)))
  }

  @Test("serial numbers are 127 bits, positive, and never the same")
  func serials() throws {
    let serials = try (0..<20).map { _ in try authority.issue("spiffe://a/ns/b/sa/c").leaf.serialNumber }
    #expect(Set(serials).count == 20)
    #expect(serials.allSatisfy { !$0.hasPrefix("-") && (38...39).contains($0.utf8.count) })
  }

  @Test(
    "a text that holds no certificate is refused with a reason",
    arguments: [
      "", "hello", "-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
      "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
      "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
      "-----BEGIN CERTIFICATE-----\nMIIB\n-----END PRIVATE KEY-----\n",
      "-----BEGIN RSA PUBLIC KEY-----\nMAA=\n-----END RSA PUBLIC KEY-----\n",
      String(repeating: "x", count: PEMBlock.maximumText + 1),
      String(repeating: "-----BEGIN CERTIFICATE-----\n", count: 1000),
    ])
  func garbage(text: String) {
    let error = #expect(throws: TLSError.self) { try Certificate.parse(pem: text, subject: "root-cert.pem") }
    #expect(error?.code == "TLS_CERTIFICATE_MALFORMED")
    #expect(error?.summary.contains("root-cert.pem") == true)
  }

  @Test("a private key among certificates is refused, not skipped")
  func keyAmongCertificates() throws {
    let text = try authority.root.pem() + authority.rootKey.pem()
    #expect(throws: TLSError.certificateMalformed("x", reason: "a PRIVATE KEY stands where a certificate is expected"))
    {
      try Certificate.parse(pem: text, subject: "x")
    }
  }

  @Test("bytes after a DER certificate are refused")
  func trailingBytes() throws {
    let block = try #require(try PEMBlock.parse(Array(authority.root.pem().utf8), subject: "x").first)
    #expect(try Certificate(der: block.bytes) == authority.root)
    #expect(throws: TLSError.certificateMalformed("x", reason: "1 bytes follow the certificate")) {
      try Certificate(der: block.bytes + [0], subject: "x")
    }
  }

  @Test("a certificate with a NUL in a name is refused")
  func embeddedNUL() throws {
    let template = TestAuthority.leaf(["spiffe://cluster.local/ns/shop/sa/web\0"])
    #expect(throws: TLSError.self) { try authority.issue(template) }
  }

  @Test("a corrupted certificate is parsed or refused, never more", arguments: 1...8 as ClosedRange<UInt64>)
  func fuzz(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let text = Array(try (authority.issue(SPIFFEIdentity.shop.description).leaf.pem() + authority.root.pem()).utf8)
    let der = try PEMBlock.parse(text, subject: "x").map(\.bytes)
    var refused = 0
    for _ in 0..<100 {
      var bytes = text
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      if (try? Certificate.parse(pem: bytes)) == nil { refused += 1 }
      _ = try? PrivateKey(pem: bytes)
      for var block in der {
        block[Int.random(in: 0..<block.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        if let parsed = try? Certificate(der: block) { #expect(parsed.identities.count <= 1) }
        #expect(throws: TLSError.self) { try Certificate(der: Array(block.prefix(block.count / 2))) }
      }
    }
    #expect(refused > 0)
  }

  // MARK: Keys

  @Test("a key survives the way through PKCS#8")
  func keyRoundTrip() throws {
    let certificate = try authority.issue(SPIFFEIdentity.shop.description)
    let pem = try certificate.privateKey.pem()
    #expect(pem.hasPrefix("-----BEGIN PRIVATE KEY-----\n"))
    #expect(certificate.leaf.matches(try PrivateKey(pem: pem)))
  }

  @Test(
    "a key that OpenSSL's tool wrote is read",
    arguments: [
      ["ecparam", "-name", "prime256v1", "-genkey", "-noout"], ["genrsa", "2048"], ["genrsa", "-traditional", "2048"],
      ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    ])
  func toolKeys(arguments: [String]) throws {
    let pem = try OpenSSLTool.run(arguments).output
    let key = try PrivateKey(pem: pem)
    let now = Timestamp.now
    let template = CertificateTemplate(
      commonName: "CA", isAuthority: true, notBefore: now, notAfter: now.advanced(bySeconds: 60))
    #expect(try template.signed(for: key).matches(key))
  }

  @Test("an encrypted key is refused without asking anybody for its passphrase")
  func encryptedKey() throws {
    let pem = try OpenSSLTool.run([
      "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes128", "-pass", "pass:secret",
    ]).output
    #expect(pem.contains("ENCRYPTED"))
    #expect(throws: TLSError.self) { try PrivateKey(pem: pem) }
  }

  @Test(
    "a text that holds no usable key is refused",
    arguments: ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
  func garbageKey(text: String) {
    let error = #expect(throws: TLSError.self) { try PrivateKey(pem: text, subject: "ca-key.pem") }
    #expect(error?.code == "TLS_KEY_MALFORMED")
  }

  @Test("a key of a kind the mesh does not use is refused")
  func otherKind() throws {
    let pem = try OpenSSLTool.run(["genpkey", "-algorithm", "ED25519"]).output
    #expect(throws: TLSError.keyMalformed("private key", reason: "it is neither RSA nor EC")) {
      try PrivateKey(pem: pem)
    }
  }

  // MARK: Workload certificates

  @Test("a root at the end of a chain is not presented")
  func rootStripped() throws {
    let certificate = try authority.issue(SPIFFEIdentity.shop.description)
    let full = try WorkloadCertificate(
      chain: certificate.chain + [authority.root], privateKey: certificate.privateKey, roots: [authority.root])
    #expect(full.chain == [certificate.leaf, authority.intermediate])
  }

  @Test("a key that is not the leaf's is refused")
  func foreignKey() throws {
    let certificate = try authority.issue(SPIFFEIdentity.shop.description)
    #expect(throws: TLSError.keyMismatch(SPIFFEIdentity.shop.description)) {
      try WorkloadCertificate(chain: certificate.chain, privateKey: .generate(), roots: [authority.root])
    }
  }

  @Test("an empty chain and an empty bundle are refused")
  func empty() throws {
    let certificate = try authority.issue(SPIFFEIdentity.shop.description)
    #expect(throws: TLSError.self) {
      try WorkloadCertificate(chain: [], privateKey: certificate.privateKey, roots: [authority.root])
    }
    #expect(throws: TLSError.self) {
      try WorkloadCertificate(chain: certificate.chain, privateKey: certificate.privateKey, roots: [])
    }
  }

  @Test(
    "a timestamp reads as RFC 3339",
    arguments: [
      (0, "1970-01-01T00:00:00Z"), (1_000_000_000, "2001-09-09T01:46:40Z"), (-1, "1969-12-31T23:59:59Z"),
      (253_402_300_799, "9999-12-31T23:59:59Z"), (Int64.max, "9223372036854775807s"),
    ] as [(Int64, String)])
  func timestamp(seconds: Int64, text: String) {
    #expect(Timestamp(secondsSinceEpoch: seconds).description == text)
  }
}
