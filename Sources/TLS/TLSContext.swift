import COpenSSL
import Vocabulary

/// Everything that the connections of one workload in one role have in common: certificate, roots, and how TLS is
/// spoken in the mesh (hbone.md §2).
///
/// Built once per certificate and used for all its connections (hbone.md limit 14). Safe to share between threads.
/// Connections outlive the context that made them.
public final class TLSContext: Sendable {
  /// Which end of a connection.
  public enum Role: Sendable, CaseIterable { case client, server }

  /// The end this context is for.
  public let role: Role
  /// The workload's own identity.
  public let identity: SPIFFEIdentity

  /// Roots by trust domain where there is more than one; empty where one bundle vouches for all.
  private let bundles: [String: [Certificate]]
  private let revocations: RevocationState?
  // An SSL_CTX is shared between threads by design once nobody configures it any more.
  nonisolated(unsafe) private let context: OpaquePointer

  /// Throws ``TLSError``: `ownIdentityMissing` where the leaf carries no SPIFFE id, since then no client could be
  /// checked for its trust domain; `contextFailed` and `keyMismatch` where libssl refuses the material.
  public init(
    role: Role, certificate: WorkloadCertificate, settings: TLSSettings = TLSSettings()
  ) throws(TLSError) {
    guard let identity = certificate.identity else { throw .ownIdentityMissing(certificate.leaf.subject) }
    ERR_clear_error()
    guard let context = SSL_CTX_new(role == .client ? TLS_client_method() : TLS_server_method()) else {
      throw .contextFailed(step: "make a context", reason: OpenSSLErrors.takeReason())
    }
    self.role = role
    self.identity = identity
    self.context = context
    bundles =
      certificate.federatedRoots.isEmpty
      ? [:] : certificate.federatedRoots.merging([identity.trustDomain: certificate.roots]) { $1 }
    revocations = settings.revocations
    // From here on every property is set, so that a throw frees the context in `deinit`.
    let setup = ContextSetup(context: context)
    try setup.speak(settings.profile)
    try setup.present(
      certificate.leaf, certificate.intermediates[...], certificate.privateKey, subject: identity.description)
    let roots = certificate.roots + certificate.federatedRoots.values.joined()
    try setup.trust(roots)
    switch role {
    case .client: try setup.offerHTTP2()
    case .server:
      try setup.name(roots)
      SSL_CTX_set_alpn_select_cb(context, selectHTTP2, nil)
    }
    ERR_clear_error()
  }

  deinit { SSL_CTX_free(context) }

  /// A new connection's `SSL`, ready to connect or to accept. The caller owns it (`SSL_free`), gives it its BIOs, and
  /// drives it from one thread at a time.
  ///
  /// A client demands that some SPIFFE id of the server equals one of `expected`; an empty list refuses every server. A
  /// server ignores `expected` and demands a client certificate of its own trust domain, or of a federated one. Both demand a chain to the
  /// roots of the context's certificate. Throws `contextFailed` where libssl has no memory.
  public func makeSSL(expecting expected: [SPIFFEIdentity] = []) throws(TLSError) -> OpaquePointer {
    guard let ssl = SSL_new(context) else {
      throw .contextFailed(step: "make a connection", reason: OpenSSLErrors.takeReason())
    }
    let demand: PeerVerification.Demand =
      role == .client ? .oneOf(expected) : .trustDomains([identity.trustDomain] + bundles.keys)
    guard PeerVerification(demand, bundles: bundles, revocations: revocations).attach(to: ssl) else {
      SSL_free(ssl)
      throw .contextFailed(step: "make a connection", reason: OpenSSLErrors.takeReason())
    }
    switch role {
    case .client: SSL_set_connect_state(ssl)
    case .server: SSL_set_accept_state(ssl)
    }
    return ssl
  }
}

/// Chooses `h2` from a client's list of length-prefixed names, else ends the handshake with no_application_protocol.
private func selectHTTP2(
  _ ssl: OpaquePointer?, _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
  _ chosenLength: UnsafeMutablePointer<UInt8>?, _ offered: UnsafePointer<UInt8>?, _ offeredLength: CUnsignedInt,
  _ argument: UnsafeMutableRawPointer?
) -> CInt {
  let offer = UnsafeBufferPointer(start: offered, count: Int(offeredLength))
  var index = 0
  while index < offer.count {
    let start = index + 1
    let end = start + Int(offer[index])
    guard end <= offer.count else { break }
    if offer[start..<end].elementsEqual("h2".utf8) {
      // The answer points into the client's own list, which libssl keeps until it has copied the answer.
      chosen?.pointee = offered.map { $0 + start }
      chosenLength?.pointee = UInt8(end - start)
      return SSL_TLSEXT_ERR_OK
    }
    index = end
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL
}
