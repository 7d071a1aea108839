import TLS
import Vocabulary

/// One row of the admin interface's list of certificates (identity.md §5).
public struct CertificateStatus: Sendable {
  public enum State: Equatable, Sendable, CustomStringConvertible {
    /// The first fetch has not been answered yet.
    case initializing
    /// There is a certificate, and it is valid.
    case available
    /// The last fetch failed and nothing valid is held.
    case unavailable(IdentityError)

    /// The text that existing tools show and compare.
    public var description: String {
      switch self {
      case .initializing: "Initializing"
      case .available: "Available"
      case .unavailable(let error): "Unavailable: \(error.summary)"
      }
    }
  }

  public let identity: SPIFFEIdentity
  public let state: State
  /// Leaf first; empty where no certificate is held.
  public let chain: [Certificate]
  public let roots: [Certificate]
  /// The last second at which the whole chain is valid; nil where no certificate is held.
  public let notAfter: Timestamp?
  /// Fetches that have failed since the last one that did not.
  public let failures: Int
  /// Why the last fetch failed, also while an older certificate is still good; nil after a success.
  public let lastError: IdentityError?
}

/// What the fetches of all certificates have come to since the start.
public struct CertificateFetches: Equatable, Sendable {
  public var succeeded: UInt64 = 0
  /// Refused, failed, or given up after too long.
  public var failed: UInt64 = 0

  public init() {}
}
