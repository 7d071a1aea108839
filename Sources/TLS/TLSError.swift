import COpenSSL
import Vocabulary

/// What goes wrong with certificates, keys, handshakes and records.
public enum TLSError: CodedError, Equatable {
  // Our own material.

  /// libssl refused to set a context up or ran out of memory.
  case contextFailed(step: String, reason: String)
  /// A text or a file that should hold certificates does not.
  case certificateMalformed(String, reason: String)
  /// A text or a file that should hold a private key does not, or no key could be made.
  case keyMalformed(String, reason: String)
  /// The private key is not the certificate's.
  case keyMismatch(String)
  /// Our own certificate carries no SPIFFE id, so that no peer could be compared with it.
  case ownIdentityMissing(String)
  /// A certificate could not be signed.
  case signingFailed(String, reason: String)

  /// A file that should hold revocation lists does not.
  case revocationListMalformed(String, reason: String)
  /// Post-quantum key exchange is demanded, and this OpenSSL has none.
  case hybridUnavailable(version: String)

  /// A snapshot could not be sealed.
  case sealingFailed(reason: String)

  // The peer's certificate.

  /// The chain does not lead to a root of our trust bundle, or a signature in it is wrong.
  case peerUntrusted(String, reason: String)
  /// A certificate of the chain is past its end.
  case peerExpired(String, notAfter: Timestamp?)
  /// A certificate of the chain is before its start.
  case peerNotYetValid(String, notBefore: Timestamp?)
  /// A certificate of the chain is on its issuer's revocation list.
  case peerRevoked(String, serialNumber: String)
  /// The certificate is not for this use (extended key usage).
  case peerWrongUsage(String)
  /// The certificate holds names that no honest authority writes.
  case peerMalformed(String)
  /// The client sent no certificate.
  case peerNoCertificate
  /// The server is somebody else than who was dialled (hbone.md §2.3).
  case peerWrongIdentity(expected: [SPIFFEIdentity], presented: [String])
  /// The server's certificate is for other names than it was dialled by.
  case peerWrongServerName(expected: [String])
  /// The client is of another trust domain (hbone.md §2.2).
  case peerWrongTrustDomain(expected: String, presented: [String])

  // The conversation.

  /// What arrived is not TLS.
  case notTLS(reason: String)
  /// No protocol version in common; we speak TLS 1.3, and 1.2 where configured.
  case version(reason: String)
  /// The client offers application protocols, and `h2` is not among them.
  case noCommonProtocol
  /// The peer ended the connection with a fatal alert.
  case alertReceived(TLSAlert)
  /// The peer closed the connection: properly (`close_notify`) or by ending the byte stream without it.
  case closed(properly: Bool)
  /// Anything else that breaks the protocol.
  case protocolViolation(reason: String)

  public var code: String {
    switch self {
    case .contextFailed: "TLS_CONTEXT_FAILED"
    case .certificateMalformed: "TLS_CERTIFICATE_MALFORMED"
    case .keyMalformed: "TLS_KEY_MALFORMED"
    case .keyMismatch: "TLS_KEY_MISMATCH"
    case .ownIdentityMissing: "TLS_OWN_IDENTITY_MISSING"
    case .signingFailed: "TLS_SIGNING_FAILED"
    case .revocationListMalformed: "CRL_MALFORMED"
    case .hybridUnavailable: "TLS_PQC_UNAVAILABLE"
    case .sealingFailed: "SEALING_FAILED"
    case .peerRevoked: "TLS_PEER_REVOKED"
    case .peerUntrusted: "TLS_PEER_UNTRUSTED"
    case .peerExpired: "TLS_PEER_EXPIRED"
    case .peerNotYetValid: "TLS_PEER_NOT_YET_VALID"
    case .peerWrongUsage: "TLS_PEER_WRONG_USAGE"
    case .peerMalformed: "TLS_PEER_MALFORMED"
    case .peerNoCertificate: "TLS_PEER_NO_CERTIFICATE"
    case .peerWrongIdentity: "TLS_PEER_WRONG_IDENTITY"
    case .peerWrongServerName: "TLS_PEER_WRONG_SERVER_NAME"
    case .peerWrongTrustDomain: "TLS_PEER_WRONG_TRUST_DOMAIN"
    case .notTLS: "TLS_NOT_TLS"
    case .version: "TLS_VERSION"
    case .noCommonProtocol: "TLS_NO_COMMON_PROTOCOL"
    case .alertReceived: "TLS_ALERT_RECEIVED"
    case .closed(properly: true): "TLS_CLOSED"
    case .closed(properly: false): "TLS_CLOSED_WITHOUT_NOTICE"
    case .protocolViolation: "TLS_PROTOCOL"
    }
  }

  public var summary: String {
    switch self {
    case .contextFailed(let step, let reason): "libssl could not \(step): \(reason)"
    case .certificateMalformed(let subject, let reason): "\(subject): not a certificate: \(reason)"
    case .keyMalformed(let subject, let reason): "\(subject): not a private key: \(reason)"
    case .keyMismatch(let subject): "\(subject): the private key does not belong to the certificate"
    case .ownIdentityMissing(let subject): "our own certificate (\(subject)) carries no SPIFFE id"
    case .signingFailed(let subject, let reason): "a certificate for \(subject) could not be signed: \(reason)"
    case .peerUntrusted(let peer, let reason):
      "tls handshake error: the certificate of \(peer) is not trusted: \(reason)"
    case .revocationListMalformed(let subject, let reason): "\(subject): not a revocation list: \(reason)"
    case .hybridUnavailable(let version):
      "key exchange with X25519MLKEM768 is demanded, and \(version) does not have it"
    case .sealingFailed(let reason): "sealing is not possible: \(reason)"
    case .peerRevoked(let peer, let serialNumber):
      "tls handshake error: the certificate of \(peer) with serial number \(serialNumber) is revoked by CRL"
    case .peerExpired(let peer, let notAfter):
      "tls handshake error: the certificate of \(peer) has expired\(notAfter.map { " at \($0)" } ?? "")"
    case .peerNotYetValid(let peer, let notBefore):
      "tls handshake error: the certificate of \(peer) is not valid\(notBefore.map { " before \($0)" } ?? " yet")"
    case .peerWrongUsage(let peer): "tls handshake error: the certificate of \(peer) is not meant for this side of TLS"
    case .peerMalformed(let reason): "tls handshake error: the peer's certificate is refused: \(reason)"
    case .peerNoCertificate: "tls handshake error: the client sent no certificate"
    case .peerWrongIdentity(let expected, let presented):
      "identity verification error: peer did not present the expected SAN (\(Self.list(expected))), "
        + "got \(Self.list(presented))"
    case .peerWrongServerName(let expected):
      "tls handshake error: the server's certificate is not for \(expected.joined(separator: " or "))"
    case .peerWrongTrustDomain(let expected, let presented):
      "identity verification error: peer did not present the expected trustdomain (\(expected)), "
        + "got \(Self.list(presented))"
    case .notTLS(let reason): "tls handshake error: what the peer sent is not TLS: \(reason)"
    case .version(let reason): "tls handshake error: no TLS version in common: \(reason)"
    case .noCommonProtocol: "tls handshake error: the client offers application protocols without h2"
    case .alertReceived(let alert): "tls handshake error: the peer refused with alert \(alert)"
    case .closed(properly: true): "the peer closed the TLS connection"
    case .closed(properly: false): "the peer ended the connection without closing TLS"
    case .protocolViolation(let reason): "tls protocol error: \(reason)"
    }
  }

  public var remedy: String? {
    switch self {
    case .contextFailed: "check the version and the configuration of OpenSSL on this machine"
    case .certificateMalformed: "check that it holds PEM certificates"
    case .keyMalformed: "check that it holds an unencrypted RSA or EC key in PEM"
    case .keyMismatch: "check that key and certificate were replaced together"
    case .ownIdentityMissing: "check what the certificate authority signs"
    case .signingFailed: "check the key and the certificate of the certificate authority"
    case .peerUntrusted: "compare the trust bundles of both ends: both need the root that signed the peer"
    case .peerExpired, .peerNotYetValid: "compare the clocks of both machines, then check the peer's rotation"
    case .revocationListMalformed: "check that it holds CRLs in PEM, or one in DER"
    case .hybridUnavailable: "run with OpenSSL 3.5 or newer, or unset COMPLIANCE_POLICY"
    case .sealingFailed: "check the key file: it needs 32 random bytes or more"
    case .peerRevoked: "the peer needs a new certificate; if it should have a good one, check the CRL"
    case .peerWrongUsage: "the peer's certificate needs serverAuth and clientAuth"
    case .peerMalformed: "check which authority signed the peer's certificate"
    case .peerNoCertificate: "the client must speak mutual TLS; a mesh client always does"
    case .peerWrongIdentity: "check whether the address still belongs to the workload that was dialled"
    case .peerWrongServerName: "check the address, or name the certificate's own name as the alternative"
    case .peerWrongTrustDomain: "both ends must be of one trust domain, or of federated ones"
    case .notTLS: "the port speaks HBONE only; check what connects to it"
    case .version: "the peer must speak TLS 1.3; TLS12_ENABLED=true allows 1.2 too"
    case .noCommonProtocol: "the client must offer h2"
    case .alertReceived: "read the peer's log for its reason"
    case .closed, .protocolViolation: nil
    }
  }

  private static func list(_ items: some Collection<some CustomStringConvertible>) -> String {
    items.isEmpty ? "none" : items.map(\.description).joined(separator: ", ")
  }
}
