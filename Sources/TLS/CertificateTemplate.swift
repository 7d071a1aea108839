import COpenSSL

/// What a new certificate is to say. Signing it makes a ``Certificate``.
public struct CertificateTemplate: Sendable {
  /// A subject alternative name.
  public enum AlternativeName: Hashable, Sendable {
    case uri(String)
    case dns(String)
  }

  /// What the holder may do in TLS (extended key usage).
  public enum Usage: String, Hashable, Sendable {
    case clientAuthentication = "clientAuth"
    case serverAuthentication = "serverAuth"
  }

  /// The organisation and the common name of the subject; nil leaves the part out, both nil make an empty subject.
  public var organization: String?
  public var commonName: String?
  /// Names, in order. The extension is critical where the subject is empty (RFC 5280 §4.2.1.6).
  public var alternativeNames: [AlternativeName]
  /// Extended key usages; empty leaves the extension out.
  public var usages: [Usage]
  /// Whether the holder may sign certificates. Decides basic constraints and key usage.
  public var isAuthority: Bool
  /// The first and the last second of the validity.
  public var notBefore: Timestamp
  public var notAfter: Timestamp

  public init(
    organization: String? = nil, commonName: String? = nil, alternativeNames: [AlternativeName] = [],
    usages: [Usage] = [], isAuthority: Bool = false, notBefore: Timestamp, notAfter: Timestamp
  ) {
    self.organization = organization
    self.commonName = commonName
    self.alternativeNames = alternativeNames
    self.usages = usages
    self.isAuthority = isAuthority
    self.notBefore = notBefore
    self.notAfter = notAfter
  }

  /// Signs a certificate for `key` as `issuer`, with SHA-256 and a random 128-bit serial number; without an issuer
  /// the certificate signs itself. Throws `signingFailed`.
  public func signed(
    for key: PrivateKey, by issuer: (certificate: Certificate, key: PrivateKey)? = nil
  ) throws(TLSError) -> Certificate {
    try Certificate(adopting: try signedX509(for: key, by: issuer), subject: subject)
  }

  /// ``signed(for:by:)`` without looking at the result, which is the caller's to free.
  func signedX509(
    for key: PrivateKey, by issuer: (certificate: Certificate, key: PrivateKey)? = nil
  ) throws(TLSError) -> OpaquePointer {
    ERR_clear_error()
    guard let x509 = X509_new() else { throw failure() }
    do throws(TLSError) {
      try require(X509_set_version(x509, Int(X509_VERSION_3)) == 1)
      try setSerialNumber(x509)
      try setTime(X509_getm_notBefore(x509), notBefore)
      try setTime(X509_getm_notAfter(x509), notAfter)
      try setSubject(X509_get_subject_name(x509))
      let issuerName = X509_get_subject_name(issuer?.certificate.x509 ?? x509)
      try require(X509_set_issuer_name(x509, issuerName) == 1)
      try require(X509_set_pubkey(x509, key.key) == 1)
      try addExtensions(x509, issuer: issuer?.certificate.x509 ?? x509)
      try require(X509_sign(x509, (issuer?.key ?? key).key, EVP_sha256()) > 0)
      ERR_clear_error()
    } catch {
      X509_free(x509)
      throw error
    }
    return x509
  }

  private var subject: String {
    switch alternativeNames.first {
    case .uri(let name), .dns(let name): name
    case nil: commonName ?? "an unnamed holder"
    }
  }

  private func failure() -> TLSError {
    .signingFailed(subject, reason: OpenSSLErrors.takeReason())
  }

  private func require(_ success: Bool) throws(TLSError) {
    guard success else { throw failure() }
  }

  private func setSerialNumber(_ x509: OpaquePointer) throws(TLSError) {
    var bytes = [UInt8](repeating: 0, count: 16)
    try require(RAND_bytes(&bytes, CInt(bytes.count)) == 1)
    // Neither negative nor zero nor shorter than it claims (RFC 5280 §4.1.2.2).
    bytes[0] = bytes[0] & 0x7f | 0x40
    guard let number = BN_bin2bn(bytes, CInt(bytes.count), nil) else { throw failure() }
    defer { BN_free(number) }
    try require(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)) != nil)
  }

  private func setTime(_ field: UnsafeMutablePointer<ASN1_TIME>?, _ time: Timestamp) throws(TLSError) {
    try require(ASN1_TIME_set(field, Int(time.secondsSinceEpoch)) != nil)
  }

  private func setSubject(_ name: OpaquePointer?) throws(TLSError) {
    for (part, text) in [("O", organization), ("CN", commonName)] {
      guard let text else { continue }
      let bytes = Array(text.utf8)
      try require(X509_NAME_add_entry_by_txt(name, part, MBSTRING_UTF8, bytes, CInt(clamping: bytes.count), -1, 0) == 1)
    }
  }

  private func addExtensions(_ x509: OpaquePointer, issuer: OpaquePointer) throws(TLSError) {
    try add(x509, issuer, NID_basic_constraints, isAuthority ? "critical,CA:TRUE" : "critical,CA:FALSE")
    try add(
      x509, issuer, NID_key_usage, isAuthority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature")
    if !usages.isEmpty {
      try add(x509, issuer, NID_ext_key_usage, usages.map(\.rawValue).joined(separator: ","))
    }
    try add(x509, issuer, NID_subject_key_identifier, "hash")
    if issuer != x509 {
      try add(x509, issuer, NID_authority_key_identifier, "keyid")
    }
    try addAlternativeNames(x509)
  }

  private func add(
    _ x509: OpaquePointer, _ issuer: OpaquePointer, _ kind: CInt, _ value: String
  ) throws(TLSError) {
    var context = X509V3_CTX()
    X509V3_set_ctx(&context, issuer, x509, nil, nil, 0)
    guard let made = X509V3_EXT_nconf_nid(nil, &context, kind, value) else { throw failure() }
    defer { X509_EXTENSION_free(made) }
    try require(X509_add_ext(x509, made, -1) == 1)
  }

  /// Names are written byte by byte and not through OpenSSL's configuration syntax, in which a name could smuggle
  /// further names.
  private func addAlternativeNames(_ x509: OpaquePointer) throws(TLSError) {
    guard !alternativeNames.isEmpty else { return }
    guard let names = ambient_general_names_new() else { throw failure() }
    defer { GENERAL_NAMES_free(names) }
    for name in alternativeNames {
      let (kind, text) =
        switch name {
        case .uri(let uri): (GEN_URI, uri)
        case .dns(let host): (GEN_DNS, host)
        }
      let bytes = Array(text.utf8)
      try require(ambient_general_names_add(names, kind, bytes, CInt(clamping: bytes.count)) == 1)
    }
    let isCritical = organization == nil && commonName == nil
    try require(
      X509_add1_ext_i2d(x509, NID_subject_alt_name, UnsafeMutableRawPointer(names), isCritical ? 1 : 0, 0) == 1)
  }
}
