import TLS
import Vocabulary

/// Whoever signs workload certificates: local files, the mesh's own service, or a SPIFFE agent.
public protocol CertificateAuthority: Sendable {
  /// Issues a certificate with a fresh key for `identity`.
  ///
  /// Called for several identities at a time. The caller bounds the time by cancelling the task, and checks that the
  /// certificate is for `identity` and still valid. Throws the authority's own failure, `issueFailed` as a rule.
  func issue(_ identity: SPIFFEIdentity) async throws(IdentityError) -> WorkloadCertificate
}
