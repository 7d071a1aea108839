import COpenSSL
import Vocabulary

/// What one connection demands of its peer, and what came of it. It hangs on the `SSL` and dies with it.
///
/// Touched only from within libssl calls on that `SSL`, hence by one thread at a time.
final class PeerVerification {
  /// What makes a chain that leads to our roots good enough.
  enum Demand {
    /// As a client: some SPIFFE id of the server is one of these (hbone.md §2.3). An empty list refuses everybody.
    case oneOf([SPIFFEIdentity])
    /// As a server: the client is of one of these trust domains, of which the first is our own.
    case trustDomains([String])
    /// As a client of a server outside the mesh: its certificate is for one of these names.
    case serverName([ServerName])
  }

  let demand: Demand
  /// Roots by trust domain: a root of one must not vouch for another's identities. Empty where one bundle is for all.
  private let bundles: [String: [Certificate]]
  private let revocations: RevocationState?
  /// What the peer was trusted by, where a later revocation list may matter.
  private var chain: VerifiedChain?
  /// The peer's first SPIFFE id, once it was verified.
  private(set) var identity: SPIFFEIdentity?
  /// Why the peer was refused.
  private(set) var failure: TLSError?

  init(_ demand: Demand, bundles: [String: [Certificate]] = [:], revocations: RevocationState? = nil) {
    self.demand = demand
    self.bundles = bundles
    self.revocations = revocations
  }

  /// Whether the list in force says that the peer, trusted when it connected, is revoked now.
  var isRevoked: Bool {
    guard let chain, let revocations else { return false }
    return revocations.revoked(in: chain) != nil
  }

  // MARK: The decision

  /// Decides on the names of a certificate whose chain is trusted. Returns the identity that policies are to use.
  ///
  /// The trust domain is asked of the first SPIFFE id, which is the one that policies and logs go by: a certificate
  /// with ids of two domains cannot pass with the one and act as the other (identity.md limit 9).
  static func identity(presenting uris: [String], demand: Demand) throws(TLSError) -> SPIFFEIdentity? {
    let identities = uris.compactMap { SPIFFEIdentity(uri: $0) }
    switch demand {
    case .oneOf(let expected):
      guard identities.contains(where: expected.contains) else {
        throw .peerWrongIdentity(expected: expected, presented: uris)
      }
    case .trustDomains(let domains):
      guard let domain = identities.first?.trustDomain, domains.contains(domain) else {
        throw .peerWrongTrustDomain(expected: domains.first ?? "", presented: uris)
      }
    // Names of servers are compared by libcrypto, in the certificate itself; nobody goes by such a server's identity.
    case .serverName: return nil
    }
    return identities.first
  }

  // MARK: In libssl

  /// Where the verification hangs on an `SSL`.
  private static let index: CInt = CRYPTO_get_ex_new_index(
    CRYPTO_EX_INDEX_SSL, 0, nil, nil, nil,
    { _, verification, _, _, _, _ in
      if let verification { Unmanaged<PeerVerification>.fromOpaque(verification).release() }
    })

  /// Hangs this verification on `ssl`, which keeps it alive. False where libssl has no memory.
  func attach(to ssl: OpaquePointer) -> Bool {
    let retained = Unmanaged.passRetained(self)
    if SSL_set_ex_data(ssl, Self.index, retained.toOpaque()) == 1 { return true }
    retained.release()
    return false
  }

  /// The verification that hangs on `ssl`, or nil for an `SSL` that no ``TLSContext`` made.
  static func of(_ ssl: OpaquePointer) -> PeerVerification? {
    SSL_get_ex_data(ssl, index).map { Unmanaged<PeerVerification>.fromOpaque($0).takeUnretainedValue() }
  }

  /// Replaces libssl's verification of a peer's chain in every connection of `context`.
  static func install(in context: OpaquePointer) {
    SSL_CTX_set_cert_verify_callback(
      context,
      { store, _ in
        guard let store,
          let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()),
          let verification = PeerVerification.of(OpaquePointer(ssl))
        else {
          X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED)
          return 0
        }
        return verification.verify(store) ? 1 : 0
      }, nil)
  }

  /// The chain first (roots, validity, usage), then the names. On refusal the error in `store` picks the alert.
  private func verify(_ store: OpaquePointer) -> Bool {
    identity = nil
    failure = nil
    guard X509_verify_cert(store) == 1 else {
      failure = Self.chainFailure(store)
      if X509_STORE_CTX_get_error(store) == X509_V_OK { X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED) }
      return false
    }
    guard let leaf = X509_STORE_CTX_get0_cert(store) else {
      failure = .peerMalformed("the chain has no leaf")
      X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED)
      return false
    }
    if case .serverName(let names) = demand, !names.contains(where: { $0.isNamed(in: leaf) }) {
      failure = .peerWrongServerName(expected: names.map(\.description))
      X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH)
      return false
    }
    let uris: [String]
    do throws(SubjectAlternativeNames.Malformed) {
      uris = try SubjectAlternativeNames.uris(of: leaf)
    } catch {
      failure = .peerMalformed(error.reason)
      X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH)
      return false
    }
    do throws(TLSError) {
      identity = try Self.identity(presenting: uris, demand: demand)
    } catch {
      failure = error
      // Of libssl's codes for a wrong name, which all end as the alert bad_certificate.
      X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH)
      return false
    }
    return bundles.isEmpty && revocations == nil || verifyChain(store, leaf, uris)
  }

  /// Whether the chain is of the peer's own trust domain, and nobody in it is revoked.
  private func verifyChain(_ store: OpaquePointer, _ leaf: OpaquePointer, _ uris: [String]) -> Bool {
    guard let chain = VerifiedChain(of: store) else {
      failure = .peerMalformed("the chain is lost")
      X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED)
      return false
    }
    // All its identities, not only the one that is gone by: a domain's root vouches for nobody else's.
    let domains = bundles.isEmpty ? [] : uris.compactMap { SPIFFEIdentity(uri: $0)?.trustDomain }
    if let domain = domains.first(where: { !chain.isAnchored(in: bundles[$0] ?? []) }) {
      failure = .peerUntrusted(Self.name(of: leaf), reason: "its root is not one of trust domain \(domain)")
      X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED)
      return false
    }
    if let revocations, let revoked = revocations.revoked(in: chain) {
      failure = .peerRevoked(revoked.subject, serialNumber: revoked.serialNumber)
      revocations.countRejection(reporter)
      X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REVOKED)
      return false
    }
    if revocations != nil { self.chain = chain }
    return true
  }

  private var reporter: RevocationState.Reporter {
    if case .trustDomains = demand { .destination } else { .source }
  }

  /// What libcrypto's verification found, in our words.
  private static func chainFailure(_ store: OpaquePointer) -> TLSError {
    let error = X509_STORE_CTX_get_error(store)
    let culprit = X509_STORE_CTX_get_current_cert(store)
    let who = name(of: culprit)
    ERR_clear_error()
    switch error {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return .peerExpired(who, notAfter: culprit.flatMap { Certificate.timestamp(X509_get0_notAfter($0)) })
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return .peerNotYetValid(who, notBefore: culprit.flatMap { Certificate.timestamp(X509_get0_notBefore($0)) })
    case X509_V_ERR_INVALID_PURPOSE:
      return .peerWrongUsage(who)
    default:
      return .peerUntrusted(who, reason: String(cString: X509_verify_cert_error_string(Int(error))))
    }
  }

  /// A certificate's first URI, else its subject: what an operator can look for.
  static func name(of certificate: OpaquePointer?) -> String {
    guard let certificate else { return "the peer" }
    if let uri = (try? SubjectAlternativeNames.uris(of: certificate))?.first { return uri }
    let subject = Certificate.line(X509_get_subject_name(certificate))
    return subject.isEmpty ? "the peer" : subject
  }
}
