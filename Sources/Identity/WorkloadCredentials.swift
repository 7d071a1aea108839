import Synchronization
import TLS
import Vocabulary

/// A workload's certificate, ready for connections: its TLS contexts are built once, at first use, and shared by all
/// connections of the workload until the certificate is rotated. Safe to share between threads.
public final class WorkloadCredentials: Sendable {
  public let identity: SPIFFEIdentity
  public let certificate: WorkloadCertificate
  /// The last second at which the leaf and every intermediate are valid.
  public let notAfter: Timestamp

  private let client = Mutex<TLSContext?>(nil)
  private let server = Mutex<TLSContext?>(nil)

  private let tls: TLSSettings

  public init(identity: SPIFFEIdentity, certificate: WorkloadCertificate, tls: TLSSettings = TLSSettings()) {
    self.tls = tls
    self.identity = identity
    self.certificate = certificate
    notAfter = certificate.chain.map(\.notAfter).reduce(certificate.leaf.notAfter, min)
  }

  /// The context for one end of connections. The first call of each role takes about a millisecond; a second thread
  /// that comes meanwhile waits for it. Throws ``TLSError`` where libssl refuses the certificate.
  public func context(_ role: TLSContext.Role) throws(TLSError) -> TLSContext {
    switch role {
    case .client: try context(role, in: client)
    case .server: try context(role, in: server)
    }
  }

  private func context(
    _ role: TLSContext.Role, in slot: borrowing Mutex<TLSContext?>
  ) throws(TLSError) -> TLSContext {
    try slot.withLock { context throws(TLSError) in
      if let context { return context }
      let made = try TLSContext(role: role, certificate: certificate, settings: tls)
      context = made
      return made
    }
  }
}
