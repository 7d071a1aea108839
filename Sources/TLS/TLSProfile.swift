import COpenSSL

/// Which versions of TLS are spoken and how keys are exchanged (hbone.md §2.1, identity.md §10). One for the whole
/// process: the mesh and the control plane alike.
public struct TLSProfile: Hashable, Sendable {
  /// The groups offered and accepted.
  public enum KeyExchange: String, Hashable, Sendable, CaseIterable {
    /// X25519, P-256, P-384, and the hybrid X25519MLKEM768 where libssl has it.
    case standard
    /// The hybrid alone: a peer without it cannot connect, and TLS 1.2 is out.
    case hybrid
    /// P-256 and P-384, which FIPS 140-2 approves. Whether the library itself is validated is the machine's matter.
    case approvedCurves
  }

  public var keyExchange: KeyExchange
  /// TLS 1.2 beside 1.3, with ECDHE and AES-GCM alone.
  public var allowsTLS12: Bool

  public init(keyExchange: KeyExchange = .standard, allowsTLS12: Bool = false) {
    self.keyExchange = keyExchange
    self.allowsTLS12 = allowsTLS12
  }

  /// TLS 1.3 with the standard groups.
  public static let standard = TLSProfile()

  /// Lists of groups in order of preference; the first that libssl knows in full is used.
  var groups: [String] {
    switch keyExchange {
    case .standard: ["X25519:P-256:P-384:X25519MLKEM768", "X25519:P-256:P-384"]
    case .hybrid: [Self.hybridGroup]
    case .approvedCurves: ["P-256:P-384"]
    }
  }

  static let hybridGroup = "X25519MLKEM768"

  /// Throws ``TLSError/hybridUnavailable(version:)`` where the profile wants what this machine's libssl does not have.
  public func check() throws(TLSError) {
    guard keyExchange == .hybrid else { return }
    ERR_clear_error()
    guard let context = SSL_CTX_new(TLS_method()) else {
      throw .contextFailed(step: "make a context", reason: OpenSSLErrors.takeReason())
    }
    defer {
      SSL_CTX_free(context)
      ERR_clear_error()
    }
    guard ambient_ctx_set_groups(context, Self.hybridGroup) == 1 else {
      throw .hybridUnavailable(version: Self.libraryVersion)
    }
  }

  /// Such as `OpenSSL 3.0.15 3 Sep 2024`.
  static var libraryVersion: String { OpenSSL_version(OPENSSL_VERSION).map { String(cString: $0) } ?? "this OpenSSL" }
}

/// What all TLS contexts of the mesh have in common besides a certificate.
public struct TLSSettings: Sendable {
  public var profile: TLSProfile
  /// Whose certificates are refused; nil checks nobody's.
  public var revocations: RevocationState?

  public init(profile: TLSProfile = .standard, revocations: RevocationState? = nil) {
    self.profile = profile
    self.revocations = revocations
  }
}
