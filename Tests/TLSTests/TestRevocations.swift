import COpenSSL

@testable import TLS

/// A revocation list for tests: what `issuer` revokes, signed with `key`, in PEM.
func revocationList(
  of issuer: Certificate, signedWith key: PrivateKey, _ revoked: Certificate..., nextUpdate: Int = 3600
) throws -> String {
  struct OutOfMemory: Error {}
  guard let list = X509_CRL_new(), let bio = BIO_new(BIO_s_mem()) else { throw OutOfMemory() }
  defer {
    X509_CRL_free(list)
    BIO_free(bio)
  }
  func time(_ offset: Int) -> UnsafeMutablePointer<ASN1_TIME>? { X509_gmtime_adj(nil, offset) }
  let (now, next) = (time(-7200), time(nextUpdate))
  defer {
    ASN1_TIME_free(now)
    ASN1_TIME_free(next)
  }
  X509_CRL_set_version(list, 1)
  X509_CRL_set_issuer_name(list, X509_get_subject_name(issuer.x509))
  X509_CRL_set1_lastUpdate(list, now)
  X509_CRL_set1_nextUpdate(list, next)
  for certificate in revoked {
    let entry = X509_REVOKED_new()
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate.x509))
    X509_REVOKED_set_revocationDate(entry, now)
    X509_CRL_add0_revoked(list, entry)
  }
  X509_CRL_sort(list)
  guard X509_CRL_sign(list, key.key, EVP_sha256()) > 0, PEM_write_bio_X509_CRL(bio, list) == 1 else {
    throw OutOfMemory()
  }
  var bytes = [UInt8](repeating: 0, count: BIO_ctrl_pending(bio))
  BIO_read(bio, &bytes, CInt(bytes.count))
  return String(decoding: bytes, as: UTF8.self)
}
