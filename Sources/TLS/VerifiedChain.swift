import COpenSSL

/// The certificates by which a peer was trusted, leaf first, trust anchor last: kept, so that they can be held against a
/// later revocation list. Safe to share between threads.
public final class VerifiedChain: Sendable {
  // libcrypto counts references atomically, and nobody changes the certificates.
  nonisolated(unsafe) let certificates: [OpaquePointer]

  /// The chain that a finished verification found; nil where there is none.
  init?(of store: OpaquePointer) {
    guard let stack = X509_STORE_CTX_get0_chain(store) else { return nil }
    let count = ambient_certificates_count(stack)
    var certificates: [OpaquePointer] = []
    for index in 0..<count {
      guard let certificate = ambient_certificates_at(stack, index), X509_up_ref(certificate) == 1 else { continue }
      certificates.append(certificate)
    }
    self.certificates = certificates
    guard !certificates.isEmpty else { return nil }
  }

  /// A chain that was put together elsewhere.
  init(_ chain: [Certificate]) {
    certificates = chain.map {
      X509_up_ref($0.x509)
      return $0.x509
    }
  }

  deinit { for certificate in certificates { X509_free(certificate) } }

  /// Whether the anchor is one of `anchors`.
  func isAnchored(in anchors: [Certificate]) -> Bool {
    guard let anchor = certificates.last else { return false }
    return anchors.contains { $0.x509 == anchor || X509_cmp($0.x509, anchor) == 0 }
  }
}
