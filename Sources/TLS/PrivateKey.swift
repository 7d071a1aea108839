import COpenSSL

/// A private key, in memory only. Safe to share between threads.
public final class PrivateKey: Sendable {
  // libcrypto counts references atomically; the key itself never changes.
  nonisolated(unsafe) let key: OpaquePointer

  private init(adopting key: OpaquePointer) {
    self.key = key
  }

  deinit { EVP_PKEY_free(key) }

  /// A fresh ECDSA key on P-256 (identity.md §3.2). Throws `keyMalformed` where libcrypto has no entropy or memory.
  public static func generate() throws(TLSError) -> PrivateKey {
    guard let key = ambient_generate_p256() else {
      throw .keyMalformed("new key", reason: OpenSSLErrors.takeReason())
    }
    return PrivateKey(adopting: key)
  }

  /// Parses the first private key of a PEM text: PKCS#8, SEC1 or PKCS#1, not encrypted, of kind RSA or EC.
  ///
  /// `subject` names the source in errors. Throws `keyMalformed`.
  public convenience init(pem: [UInt8], subject: String = "private key") throws(TLSError) {
    guard pem.count <= PEMBlock.maximumBlock else {
      throw .keyMalformed(subject, reason: "longer than \(PEMBlock.maximumBlock) bytes")
    }
    let source = try MemoryBIO(pem)
    ERR_clear_error()
    // Without a callback of ours libcrypto would ask on the terminal for the passphrase of an encrypted key.
    guard let key = PEM_read_bio_PrivateKey(source.raw, nil, { _, _, _, _ in -1 }, nil) else {
      throw .keyMalformed(subject, reason: OpenSSLErrors.takeReason())
    }
    guard [EVP_PKEY_RSA, EVP_PKEY_EC].contains(EVP_PKEY_get_base_id(key)) else {
      EVP_PKEY_free(key)
      throw .keyMalformed(subject, reason: "it is neither RSA nor EC")
    }
    ERR_clear_error()
    self.init(adopting: key)
  }

  /// ``init(pem:subject:)`` of a text.
  public convenience init(pem: String, subject: String = "private key") throws(TLSError) {
    try self.init(pem: Array(pem.utf8), subject: subject)
  }

  /// Parses an unencrypted PKCS#8 key of kind RSA or EC in DER. `subject` names the source in errors. Throws
  /// `keyMalformed`.
  public convenience init(der: [UInt8], subject: String = "private key") throws(TLSError) {
    guard der.count <= PEMBlock.maximumBlock else {
      throw .keyMalformed(subject, reason: "longer than \(PEMBlock.maximumBlock) bytes")
    }
    ERR_clear_error()
    let parsed = der.withUnsafeBufferPointer { bytes -> OpaquePointer? in
      var cursor = bytes.baseAddress
      guard let information = d2i_PKCS8_PRIV_KEY_INFO(nil, &cursor, bytes.count) else { return nil }
      defer { PKCS8_PRIV_KEY_INFO_free(information) }
      guard let cursor, let base = bytes.baseAddress, cursor - base == bytes.count else { return nil }
      return EVP_PKCS82PKEY(information)
    }
    guard let parsed else { throw .keyMalformed(subject, reason: OpenSSLErrors.takeReason()) }
    guard [EVP_PKEY_RSA, EVP_PKEY_EC].contains(EVP_PKEY_get_base_id(parsed)) else {
      EVP_PKEY_free(parsed)
      throw .keyMalformed(subject, reason: "it is neither RSA nor EC")
    }
    ERR_clear_error()
    self.init(adopting: parsed)
  }

  /// The key as unencrypted PKCS#8 PEM, for a certificate authority's own key. Workload keys leave memory in sealed
  /// snapshots only.
  package func pem() throws(TLSError) -> String {
    let sink = try MemoryBIO()
    guard PEM_write_bio_PKCS8PrivateKey(sink.raw, key, nil, nil, 0, nil, nil) == 1 else {
      throw .keyMalformed("private key", reason: OpenSSLErrors.takeReason())
    }
    return String(decoding: sink.contents(), as: UTF8.self)
  }

  /// The key as unencrypted PKCS#8 in DER: for a sealed snapshot, and nothing else.
  package func der() throws(TLSError) -> [UInt8] {
    let sink = try MemoryBIO()
    guard i2d_PKCS8PrivateKey_bio(sink.raw, key, nil, nil, 0, nil, nil) == 1 else {
      throw .keyMalformed("private key", reason: OpenSSLErrors.takeReason())
    }
    return sink.contents()
  }
}
