import COpenSSL

/// Steps in which libssl contexts of all kinds are set up.
struct ContextSetup {
  let context: OpaquePointer

  /// In order of preference, and nothing else (hbone.md §2.1).
  static let suites = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"
  /// Certificates between a leaf and its root.
  static let maximumDepth: CInt = 8
  /// Bytes of a peer's certificate message.
  static let maximumCertificateMessage = 64 << 10

  func speak(_ profile: TLSProfile) throws(TLSError) {
    let allowsTLS12 = profile.allowsTLS12 && profile.keyExchange != .hybrid
    try require(ambient_ctx_set_versions(context, allowsTLS12 ? 1 : 0) == 1, "choose the versions of TLS")
    try require(SSL_CTX_set_ciphersuites(context, Self.suites) == 1, "set the cipher suites")
    try require(profile.groups.contains { ambient_ctx_set_groups(context, $0) == 1 }, "set the key exchange groups")
    ambient_ctx_set_engine_modes(context)
  }

  /// Shows this certificate to peers. `subject` names it in errors.
  func present(
    _ leaf: Certificate, _ intermediates: ArraySlice<Certificate>, _ key: PrivateKey, subject: String
  ) throws(TLSError) {
    try require(SSL_CTX_use_certificate(context, leaf.x509) == 1, "use the certificate")
    for intermediate in intermediates {
      try require(ambient_ctx_add_chain_certificate(context, intermediate.x509) == 1, "use an intermediate certificate")
    }
    // libssl compares the key with the certificate here already, so that a mismatch must be told from other failures.
    guard leaf.matches(key) else { throw .keyMismatch(subject) }
    try require(SSL_CTX_use_PrivateKey(context, key.key) == 1, "use the private key")
  }

  /// Demands a chain to one of `roots` of every peer, and whatever its `SSL` demands besides.
  func trust(_ roots: [Certificate]) throws(TLSError) {
    let store = SSL_CTX_get_cert_store(context)
    // An anchor need not be self-signed: a mesh may be rooted in an intermediate of the company's.
    X509_STORE_set_flags(store, CUnsignedLong(X509_V_FLAG_PARTIAL_CHAIN))
    for root in roots { try require(X509_STORE_add_cert(store, root.x509) == 1, "trust a root certificate") }
    verifyPeers()
  }

  /// Demands a chain to a root that the operating system trusts.
  func trustSystem() throws(TLSError) {
    try require(SSL_CTX_set_default_verify_paths(context) == 1, "find the system's root certificates")
    verifyPeers()
  }

  private func verifyPeers() {
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
    SSL_CTX_set_verify_depth(context, Self.maximumDepth)
    ambient_ctx_set_max_certificate_list(context, Self.maximumCertificateMessage)
    PeerVerification.install(in: context)
  }

  /// Names `roots` to clients, so that they can choose a certificate.
  func name(_ roots: [Certificate]) throws(TLSError) {
    for root in roots {
      try require(SSL_CTX_add_client_CA(context, root.x509) == 1, "name a root certificate to clients")
    }
  }

  func offerHTTP2() throws(TLSError) {
    let offer = [UInt8](arrayLiteral: 2) + Array("h2".utf8)
    // The one call of libssl where zero means success.
    try require(SSL_CTX_set_alpn_protos(context, offer, CUnsignedInt(offer.count)) == 0, "offer h2")
  }

  func require(_ success: Bool, _ step: String) throws(TLSError) {
    guard success else { throw .contextFailed(step: step, reason: OpenSSLErrors.takeReason()) }
  }
}
