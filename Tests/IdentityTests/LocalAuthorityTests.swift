import COpenSSL
import Glibc
import TLS
import Testing
import Vocabulary

@testable import Identity

@Suite("An authority in a directory")
struct LocalAuthorityTests {
  let directory: TemporaryDirectory
  let web = SPIFFEIdentity.account("web")

  init() throws {
    directory = try TemporaryDirectory()
    try DevelopmentAuthority.create(in: directory.path)
  }

  private func certificates(_ file: AuthorityFile) throws -> [Certificate] {
    try Certificate.parse(pem: text(file))
  }

  private func text(_ file: AuthorityFile) throws -> String {
    let stream = try #require(fopen(file.path(in: directory.path), "r"))
    defer { fclose(stream) }
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let count = fread(&buffer, 1, buffer.count, stream)
    return String(decoding: buffer.prefix(count), as: UTF8.self)
  }

  // MARK: Making one

  @Test("a new authority's key is readable by its owner only")
  func modes() throws {
    var status = stat()
    try #require(stat(AuthorityFile.key.path(in: directory.path), &status) == 0)
    #expect(status.st_mode & 0o777 == 0o600)
  }

  @Test("a new authority never overwrites one", arguments: [AuthorityFile.root, .certificate, .key, .chain])
  func noOverwrite(file: AuthorityFile) throws {
    for other in AuthorityFile.allCases where other != file { unlink(other.path(in: directory.path)) }
    let before = try text(file)
    #expect(throws: IdentityError.authorityExists(path: file.path(in: directory.path))) {
      try DevelopmentAuthority.create(in: directory.path)
    }
    #expect(try text(file) == before)
    for other in AuthorityFile.allCases where other != file {
      #expect(access(other.path(in: directory.path), F_OK) != 0)
    }
  }

  @Test("a directory that cannot be made is an error that names it")
  func noParent() {
    let path = directory.path + "/missing/authority"
    let error = #expect(throws: IdentityError.self) { try DevelopmentAuthority.create(in: path) }
    #expect(error?.code == "CA_FILE_NOT_WRITTEN")
    #expect(error?.summary.contains(path) == true)
  }

  // MARK: Issuing

  @Test("a leaf carries exactly the identity, both usages, and no subject")
  func leaf() async throws {
    let now = Timestamp.now
    let authority = try LocalAuthority(directory: directory.path, now: { now })
    let certificate = try await authority.issue(web)
    #expect(certificate.leaf.uris == [web.description])
    #expect(certificate.leaf.subject == "")
    #expect(certificate.leaf.isAuthority == false)
    #expect(certificate.leaf.notBefore == now.advanced(bySeconds: -120))
    #expect(certificate.leaf.notAfter == now.advanced(bySeconds: 86400))
    #expect(certificate.chain == [certificate.leaf] + (try certificates(.certificate)))
    #expect(certificate.roots == (try certificates(.root)))
  }

  @Test("OpenSSL's own listing of a leaf shows the extensions that peers look at")
  func extensions() async throws {
    let leaf = try await LocalAuthority(directory: directory.path).issue(web).leaf
    let text = try describe(leaf)
    #expect(text.contains("X509v3 Subject Alternative Name: critical\n                URI:\(web)"))
    #expect(text.contains("X509v3 Key Usage: critical\n                Digital Signature\n"))
    #expect(text.contains("TLS Web Server Authentication, TLS Web Client Authentication"))
    #expect(text.contains("X509v3 Basic Constraints: critical\n                CA:FALSE"))
    #expect(text.contains("ASN1 OID: prime256v1"))
  }

  private func describe(_ certificate: Certificate) throws -> String {
    let source: OpaquePointer = BIO_new(BIO_s_mem())
    let sink: OpaquePointer = BIO_new(BIO_s_mem())
    defer {
      BIO_free(source)
      BIO_free(sink)
    }
    BIO_puts(source, try certificate.pem())
    let parsed = PEM_read_bio_X509(source, nil, nil, nil)
    defer { X509_free(parsed) }
    X509_print(sink, parsed)
    var buffer = [UInt8](repeating: 0, count: BIO_ctrl_pending(sink))
    BIO_read(sink, &buffer, CInt(buffer.count))
    return String(decoding: buffer, as: UTF8.self)
  }

  @Test("every issue has its own key and serial number")
  func freshKeys() async throws {
    let authority = try LocalAuthority(directory: directory.path)
    let first = try await authority.issue(web)
    let second = try await authority.issue(web)
    #expect(first.leaf.serialNumber != second.leaf.serialNumber)
    #expect(!first.leaf.matches(second.privateKey))
  }

  @Test("a leaf never outlives its authority")
  func boundedLife() async throws {
    let authority = try LocalAuthority(directory: directory.path, lifetime: .seconds(400 * 86400))
    let certificate = try await authority.issue(web)
    #expect(certificate.leaf.notAfter == (try certificates(.certificate).first?.notAfter))
  }

  @Test("an authority that has expired while running signs no more")
  func expiredWhileRunning() async throws {
    let clock = ManualClock()
    clock.stepWall(seconds: Timestamp.now.seconds(since: clock.wall))
    let authority = try LocalAuthority(directory: directory.path, now: { clock.wall })
    clock.stepWall(seconds: 366 * 86400)
    await #expect { try await authority.issue(web) } throws: { ($0 as? IdentityError)?.code == "CA_NOT_VALID_NOW" }
  }

  @Test("a name that no URI may hold gets no certificate")
  func badName() async throws {
    let authority = try LocalAuthority(directory: directory.path)
    await #expect { try await authority.issue(.account("web\0")) } throws: {
      ($0 as? IdentityError)?.code == "IDENTITY_ISSUE_FAILED"
    }
  }

  @Test("certificates of one authority make a connection between two workloads")
  func connection() async throws {
    let store = CertificateStore(authority: try LocalAuthority(directory: directory.path))
    let bank = SPIFFEIdentity.account("bank")
    let deadline = ContinuousClock.now + .seconds(60)
    let client = try await store.credentials(for: web, until: deadline).context(.client).makeSSL(expecting: [bank])
    let server = try await store.credentials(for: bank, until: deadline).context(.server).makeSSL()
    defer {
      SSL_free(client)
      SSL_free(server)
    }
    var near: OpaquePointer?
    var far: OpaquePointer?
    try #require(BIO_new_bio_pair(&near, 1 << 16, &far, 1 << 16) == 1)
    SSL_set_bio(client, near, near)
    SSL_set_bio(server, far, far)
    for _ in 0..<6 {
      SSL_do_handshake(client)
      SSL_do_handshake(server)
    }
    #expect(TLSPeer.identity(of: client) == bank)
    #expect(TLSPeer.identity(of: server) == web)
  }

  // MARK: Replacing

  @Test("a replaced authority signs the next certificate")
  func replaced() async throws {
    let authority = try LocalAuthority(directory: directory.path)
    let before = try await authority.issue(web)
    for file in AuthorityFile.allCases { unlink(file.path(in: directory.path)) }
    try DevelopmentAuthority.create(in: directory.path, organization: "Successor")
    let after = try await authority.issue(web)
    #expect(after.roots != before.roots)
    #expect(after.roots.first?.subject == "/O=Successor/CN=Root CA")
    #expect(after.leaf.fault(through: after.intermediates, to: after.roots, at: .now) == nil)
    #expect(after.leaf.fault(through: after.intermediates, to: before.roots, at: .now) != nil)
  }

  @Test("while a replacement is broken the authority before goes on signing")
  func brokenReplacement() async throws {
    let authority = try LocalAuthority(directory: directory.path)
    let before = try await authority.issue(web)
    try directory.write("half a key", to: .key)
    #expect(try await authority.issue(web).roots == before.roots)
    for file in AuthorityFile.allCases { unlink(file.path(in: directory.path)) }
    #expect(try await authority.issue(web).roots == before.roots)
    try DevelopmentAuthority.create(in: directory.path)
    #expect(try await authority.issue(web).roots != before.roots)
  }

  // MARK: Refusing

  @Test("a directory without the chain file is good where nothing is between authority and root")
  func withoutChain() async throws {
    unlink(AuthorityFile.chain.path(in: directory.path))
    #expect(try await LocalAuthority(directory: directory.path).issue(web).intermediates.count == 1)
  }

  @Test("a root that signs workloads itself is not presented to peers")
  func rootSigns() async throws {
    let issuer = try TestIssuer()
    try directory.write(issuer.root.pem(), to: .root)
    try directory.write(issuer.root.pem(), to: .certificate)
    try directory.write(issuer.root.pem(), to: .chain)
    try directory.write(issuer.key.pem(), to: .key)
    let certificate = try await LocalAuthority(directory: directory.path).issue(web)
    #expect(certificate.chain.count == 1)
    #expect(certificate.leaf.fault(through: [], to: certificate.roots, at: .now) == nil)
  }

  @Test("a missing file is named", arguments: [AuthorityFile.root, .certificate, .key])
  func missing(file: AuthorityFile) {
    unlink(file.path(in: directory.path))
    let error = #expect(throws: IdentityError.self) { try LocalAuthority(directory: directory.path) }
    #expect(
      error == .fileUnreadable(path: file.path(in: directory.path), reason: "No such file or directory"))
  }

  @Test(
    "a file of garbage is named", arguments: AuthorityFile.allCases,
    ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
  func garbage(file: AuthorityFile, text: String) throws {
    try directory.write(text, to: file)
    let error = #expect(throws: IdentityError.self) { try LocalAuthority(directory: directory.path) }
    #expect(error?.code == "CA_FILE_MALFORMED")
    #expect(error?.summary.contains(file.path(in: directory.path)) == true)
  }

  @Test("a named pipe in the place of a file does not hold the caller")
  func pipe() throws {
    let path = AuthorityFile.root.path(in: directory.path)
    unlink(path)
    try #require(mkfifo(path, 0o600) == 0)
    let error = #expect(throws: IdentityError.self) { try LocalAuthority(directory: directory.path) }
    #expect(error?.code == "CA_FILE_MALFORMED")
  }

  @Test("a key of another authority is refused")
  func foreignKey() throws {
    try directory.write(TestIssuer().key.pem(), to: .key)
    #expect(throws: IdentityError.keyMismatch(path: AuthorityFile.key.path(in: directory.path))) {
      try LocalAuthority(directory: directory.path)
    }
  }

  @Test("a chain that does not lead to the root is refused")
  func foreignRoot() throws {
    try directory.write(TestIssuer().root.pem(), to: .root)
    let error = #expect(throws: IdentityError.self) { try LocalAuthority(directory: directory.path) }
    #expect(error?.code == "CA_CHAIN_BROKEN")
  }

  @Test("a leaf in the place of the authority is refused")
  func leafAsAuthority() throws {
    let issuer = try TestIssuer()
    let leaf = try issuer.issue(web, from: .now, seconds: 1000)
    try directory.write(issuer.root.pem(), to: .root)
    try directory.write(leaf.leaf.pem(), to: .certificate)
    try directory.write(leaf.privateKey.pem(), to: .key)
    #expect(throws: IdentityError.notAnAuthority(path: AuthorityFile.certificate.path(in: directory.path))) {
      try LocalAuthority(directory: directory.path)
    }
  }

  @Test("an expired and a future authority are refused", arguments: [-1000 * 86400, 1000 * 86400] as [Int64])
  func notNow(offset: Int64) {
    let now = Timestamp.now.advanced(bySeconds: offset)
    let error = #expect(throws: IdentityError.self) { try LocalAuthority(directory: directory.path, now: { now }) }
    #expect(error?.code == "CA_NOT_VALID_NOW")
  }
}
