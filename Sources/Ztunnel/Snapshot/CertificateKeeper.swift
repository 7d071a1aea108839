import Glibc
import Identity
import Linux
import Logging
import Synchronization
import TLS

/// Keeps the certificates of this node's workloads, keys included, in a sealed file, written anew soon after each change.
/// Safe to use from any thread.
final class CertificateKeeper: Sendable {
  private let vault: SnapshotVault
  private let certificates: CertificateStore
  private let logger: Logger
  private let isScheduled = Mutex(false)

  /// Time in which changes gather: after a start every workload gets its certificate.
  private static let pause = Duration.milliseconds(500)

  init(_ vault: SnapshotVault, _ certificates: CertificateStore, logger: Logger) {
    self.vault = vault
    self.certificates = certificates
    self.logger = logger
  }

  /// Gives the store what was kept and is still valid, and keeps what it gets from now on.
  func start() {
    do throws(SnapshotError) {
      if let file = try vault.open(.certificates) {
        var reader = try vault.reader(of: file, .certificates)
        var kept: [WorkloadCertificate] = []
        while let record = try reader.next() { kept += CertificateBundle.read(record) }
        certificates.restore(kept)
        logger.info("certificates from before the start", metadata: ["certificates": "\(kept.count)"])
      }
    } catch {
      unlink(vault.path(.certificates))
      logger.warning("kept certificates are not used", metadata: ["error": "\(error)"])
    }
    certificates.onChange { [weak self] in self?.schedule() }
  }

  /// Removes what an earlier start may have kept.
  static func forget(_ vault: SnapshotVault) { unlink(vault.path(.certificates)) }

  private func schedule() {
    let isFirst = isScheduled.withLock { isScheduled in
      defer { isScheduled = true }
      return !isScheduled
    }
    guard isFirst else { return }
    Task(priority: .medium) { [self] in
      try? await Task.sleep(for: Self.pause)
      let job: @Sendable () -> Void = { [self] in
        isScheduled.withLock { $0 = false }
        write()
      }
      vault.thread.submit(job, orRefuse: job)
    }
  }

  /// Writes the file now, on the caller's thread.
  func write() {
    do {
      var sealed = try SealedFile(.certificates, secret: vault.secret)
      let record = try CertificateBundle.bytes(of: certificates.held())
      let bytes = try sealed.header + sealed.append(record)
      _ = try WholeFile.replace(vault.path(.certificates), with: bytes)
    } catch {
      unlink(vault.path(.certificates))
      logger.error("certificates cannot be kept for a restart", metadata: ["error": "\(error)"])
    }
  }
}
