import COpenSSL
import Vocabulary

/// TLS toward servers outside the mesh, the control plane above all: the server known by its DNS name or address
/// (xds.md §1), and a certificate of our own only for servers that know their clients by one.
///
/// Built for one set of roots; a new set is a new context. Safe to share between threads. Connections outlive it.
public final class ServerTrustContext: Sendable {
  /// Whom to trust.
  public enum Roots: Sendable {
    case certificates([Certificate])
    /// What the operating system trusts.
    case system
  }

  /// What this side shows a server that asks for a certificate.
  public struct ClientCertificate: Sendable {
    /// The leaf first, then intermediates.
    public var chain: [Certificate]
    public var privateKey: PrivateKey

    public init(chain: [Certificate], privateKey: PrivateKey) {
      self.chain = chain
      self.privateKey = privateKey
    }
  }

  // An SSL_CTX is shared between threads by design once nobody configures it any more.
  nonisolated(unsafe) private let context: OpaquePointer

  /// TLS as `profile` has it, ALPN `h2`. Throws `contextFailed`, and `keyMismatch` where the client's key is not its
  /// certificate's; an empty list of roots trusts nobody.
  public init(
    roots: Roots, client: ClientCertificate? = nil, profile: TLSProfile = .standard
  ) throws(TLSError) {
    ERR_clear_error()
    guard let context = SSL_CTX_new(TLS_client_method()) else {
      throw .contextFailed(step: "make a context", reason: OpenSSLErrors.takeReason())
    }
    self.context = context
    // From here on every property is set, so that a throw frees the context in `deinit`.
    let setup = ContextSetup(context: context)
    try setup.speak(profile)
    switch roots {
    case .certificates(let certificates): try setup.trust(certificates)
    case .system: try setup.trustSystem()
    }
    if let client, let leaf = client.chain.first {
      try setup.present(leaf, client.chain.dropFirst(), client.privateKey, subject: leaf.subject)
    }
    try setup.offerHTTP2()
    ERR_clear_error()
  }

  deinit { SSL_CTX_free(context) }

  /// A new connection's `SSL`, ready to connect; the caller owns it.
  ///
  /// The server's certificate must be for `name`, or else for `alternative`. A DNS name is also sent as SNI
  /// (RFC 6066 §3). Throws `contextFailed` where libssl has no memory.
  public func makeSSL(server name: ServerName, alternative: ServerName? = nil) throws(TLSError) -> OpaquePointer {
    guard let ssl = SSL_new(context) else {
      throw .contextFailed(step: "make a connection", reason: OpenSSLErrors.takeReason())
    }
    let demand = PeerVerification.Demand.serverName([name] + (alternative.map { [$0] } ?? []))
    var isReady = PeerVerification(demand).attach(to: ssl)
    if case .dns(let host) = name { isReady = isReady && ambient_set_server_name(ssl, host) == 1 }
    guard isReady else {
      SSL_free(ssl)
      throw .contextFailed(step: "make a connection", reason: OpenSSLErrors.takeReason())
    }
    SSL_set_connect_state(ssl)
    return ssl
  }
}
