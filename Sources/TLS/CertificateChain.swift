import COpenSSL

extension Certificate {
  /// What keeps this certificate from being trusted through `intermediates` by `roots` at an instant, in OpenSSL's
  /// words, or nil where nothing does.
  public func fault(
    through intermediates: [Certificate], to roots: [Certificate], at instant: Timestamp
  ) -> String? {
    let store = X509_STORE_new()
    let others = OPENSSL_sk_new_null()
    let verification = X509_STORE_CTX_new()
    defer {
      X509_STORE_CTX_free(verification)
      OPENSSL_sk_free(others)
      X509_STORE_free(store)
      ERR_clear_error()
    }
    guard let store, let others, let verification else { return OpenSSLErrors.takeReason() }
    for root in roots where X509_STORE_add_cert(store, root.x509) != 1 { return OpenSSLErrors.takeReason() }
    for other in intermediates where OPENSSL_sk_push(others, UnsafeRawPointer(other.x509)) <= 0 {
      return OpenSSLErrors.takeReason()
    }
    X509_STORE_set_flags(store, CUnsignedLong(X509_V_FLAG_PARTIAL_CHAIN))
    guard X509_STORE_CTX_init(verification, store, x509, others) == 1 else { return OpenSSLErrors.takeReason() }
    X509_STORE_CTX_set_time(verification, 0, Int(instant.secondsSinceEpoch))
    let isTrusted = X509_verify_cert(verification) == 1
    return withExtendedLifetime((roots, intermediates)) {
      if isTrusted { return nil }
      return String(cString: X509_verify_cert_error_string(Int(X509_STORE_CTX_get_error(verification))))
    }
  }
}
