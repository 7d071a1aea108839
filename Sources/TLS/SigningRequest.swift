import COpenSSL
import Vocabulary

/// A request to a certificate authority for a certificate of one identity (PKCS#10, RFC 2986).
public enum SigningRequest {
  /// The request in PEM: empty subject, one critical URI name, signed with `key` and SHA-256 (identity.md §3.2).
  ///
  /// Throws `signingFailed`.
  public static func pem(for identity: SPIFFEIdentity, key: PrivateKey) throws(TLSError) -> String {
    ERR_clear_error()
    guard let request = X509_REQ_new() else { throw failure(identity) }
    defer {
      X509_REQ_free(request)
      ERR_clear_error()
    }
    let uri = Array(identity.description.utf8)
    let sink = try MemoryBIO()
    guard X509_REQ_set_version(request, 0) == 1, X509_REQ_set_pubkey(request, key.key) == 1,
      ambient_request_add_uri(request, uri, CInt(clamping: uri.count)) == 1,
      X509_REQ_sign(request, key.key, EVP_sha256()) > 0, PEM_write_bio_X509_REQ(sink.raw, request) == 1
    else { throw failure(identity) }
    return String(decoding: sink.contents(), as: UTF8.self)
  }

  private static func failure(_ identity: SPIFFEIdentity) -> TLSError {
    .signingFailed(identity.description, reason: OpenSSLErrors.takeReason())
  }
}
