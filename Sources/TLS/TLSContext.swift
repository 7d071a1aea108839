import COpenSSL
import Vocabulary

/// Everything that the connections of one workload in one role have in common: certificate, roots, and how TLS is
/// spoken in the mesh (hbone.md §2).
///
/// Built once per certificate and used for all its connections (hbone.md limit 14). Safe to share between threads.
/// Connections outlive the context that made them.
public final class TLSContext: Sendable {
  /// Which end of a connection.
  public enum Role: Sendable, CaseIterable { case client, server }

  /// The end this context is for.
  public let role: Role
  /// The workload's own identity.
  public let identity: SPIFFEIdentity

  // An SSL_CTX is shared between threads by design once nobody configures it any more.
  nonisolated(unsafe) private let context: OpaquePointer

  /// In order of preference, and nothing else (hbone.md §2.1).
  static let suites = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"
  /// The key exchange groups in order (hbone.md §2.1). The hybrid exists from OpenSSL 3.5 on.
  static let groups = ["X25519:P-256:P-384:X25519MLKEM768", "X25519:P-256:P-384"]
  /// Certificates between a leaf and its root.
  static let maximumDepth: CInt = 8
  /// Bytes of a peer's certificate message.
  static let maximumCertificateMessage = 64 << 10

  /// Throws ``TLSError``: `ownIdentityMissing` where the leaf carries no SPIFFE id, since then no client could be
  /// checked for its trust domain; `contextFailed` and `keyMismatch` where libssl refuses the material.
  public init(role: Role, certificate: WorkloadCertificate) throws(TLSError) {
    guard let identity = certificate.identity else { throw .ownIdentityMissing(certificate.leaf.subject) }
    ERR_clear_error()
    guard let context = SSL_CTX_new(role == .client ? TLS_client_method() : TLS_server_method()) else {
      throw .contextFailed(step: "make a context", reason: OpenSSLErrors.takeReason())
    }
    self.role = role
    self.identity = identity
    self.context = context
    // From here on every property is set, so that a throw frees the context in `deinit`.
    try speakTLS13()
    try present(certificate)
    try trust(certificate.roots)
    try agreeOnHTTP2()
    ERR_clear_error()
  }

  deinit { SSL_CTX_free(context) }

  /// A new connection's `SSL`, ready to connect or to accept. The caller owns it (`SSL_free`), gives it its BIOs, and
  /// drives it from one thread at a time.
  ///
  /// A client demands that some SPIFFE id of the server equals one of `expected`; an empty list refuses every server. A
  /// server ignores `expected` and demands a client certificate of its own trust domain. Both demand a chain to the
  /// roots of the context's certificate. Throws `contextFailed` where libssl has no memory.
  public func makeSSL(expecting expected: [SPIFFEIdentity] = []) throws(TLSError) -> OpaquePointer {
    guard let ssl = SSL_new(context) else {
      throw .contextFailed(step: "make a connection", reason: OpenSSLErrors.takeReason())
    }
    let demand: PeerVerification.Demand = role == .client ? .oneOf(expected) : .trustDomain(identity.trustDomain)
    guard PeerVerification(demand).attach(to: ssl) else {
      SSL_free(ssl)
      throw .contextFailed(step: "make a connection", reason: OpenSSLErrors.takeReason())
    }
    switch role {
    case .client: SSL_set_connect_state(ssl)
    case .server: SSL_set_accept_state(ssl)
    }
    return ssl
  }

  private func speakTLS13() throws(TLSError) {
    try require(ambient_ctx_require_tls13(context) == 1, "ask for TLS 1.3")
    try require(SSL_CTX_set_ciphersuites(context, Self.suites) == 1, "set the cipher suites")
    try require(Self.groups.contains { ambient_ctx_set_groups(context, $0) == 1 }, "set the key exchange groups")
    ambient_ctx_set_engine_modes(context)
  }

  private func present(_ certificate: WorkloadCertificate) throws(TLSError) {
    try require(SSL_CTX_use_certificate(context, certificate.leaf.x509) == 1, "use the certificate")
    for intermediate in certificate.intermediates {
      try require(
        ambient_ctx_add_chain_certificate(context, intermediate.x509) == 1, "use an intermediate certificate")
    }
    try require(SSL_CTX_use_PrivateKey(context, certificate.privateKey.key) == 1, "use the private key")
    guard SSL_CTX_check_private_key(context) == 1 else {
      ERR_clear_error()
      throw .keyMismatch(identity.description)
    }
  }

  private func trust(_ roots: [Certificate]) throws(TLSError) {
    let store = SSL_CTX_get_cert_store(context)
    // An anchor need not be self-signed: a mesh may be rooted in an intermediate of the company's.
    X509_STORE_set_flags(store, CUnsignedLong(X509_V_FLAG_PARTIAL_CHAIN))
    for root in roots {
      try require(X509_STORE_add_cert(store, root.x509) == 1, "trust a root certificate")
      if role == .server {
        try require(SSL_CTX_add_client_CA(context, root.x509) == 1, "name a root certificate to clients")
      }
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
    SSL_CTX_set_verify_depth(context, Self.maximumDepth)
    ambient_ctx_set_max_certificate_list(context, Self.maximumCertificateMessage)
    PeerVerification.install(in: context)
  }

  private func agreeOnHTTP2() throws(TLSError) {
    switch role {
    case .client:
      let offer = [UInt8](arrayLiteral: 2) + Array("h2".utf8)
      // The one call of libssl where zero means success.
      try require(SSL_CTX_set_alpn_protos(context, offer, CUnsignedInt(offer.count)) == 0, "offer h2")
    case .server:
      SSL_CTX_set_alpn_select_cb(context, selectHTTP2, nil)
    }
  }

  private func require(_ success: Bool, _ step: String) throws(TLSError) {
    guard success else { throw .contextFailed(step: step, reason: OpenSSLErrors.takeReason()) }
  }
}

/// Chooses `h2` from a client's list of length-prefixed names, else ends the handshake with no_application_protocol.
private func selectHTTP2(
  _ ssl: OpaquePointer?, _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
  _ chosenLength: UnsafeMutablePointer<UInt8>?, _ offered: UnsafePointer<UInt8>?, _ offeredLength: CUnsignedInt,
  _ argument: UnsafeMutableRawPointer?
) -> CInt {
  let offer = UnsafeBufferPointer(start: offered, count: Int(offeredLength))
  var index = 0
  while index < offer.count {
    let start = index + 1
    let end = start + Int(offer[index])
    guard end <= offer.count else { break }
    if offer[start..<end].elementsEqual("h2".utf8) {
      // The answer points into the client's own list, which libssl keeps until it has copied the answer.
      chosen?.pointee = offered.map { $0 + start }
      chosenLength?.pointee = UInt8(end - start)
      return SSL_TLSEXT_ERR_OK
    }
    index = end
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL
}
