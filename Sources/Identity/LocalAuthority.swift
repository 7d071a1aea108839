import Logging
import Synchronization
import TLS
import Vocabulary

/// A certificate authority whose key is on this machine, in a directory with the files of Istio's `cacerts` secret.
///
/// For meshes without a control plane: bare metal and tests. The files are looked at on every issue, so that a
/// replaced authority signs the next certificate; while a replacement is broken or half written, the one before goes on
/// signing until it expires. Safe to use from several tasks at a time.
public final class LocalAuthority: CertificateAuthority {
  /// How far certificates are back-dated, so that a peer whose clock is slow accepts them (identity.md §3.1).
  static let backdating: Int64 = 120

  /// The directory, as given.
  public let directory: String
  /// The longest life of a certificate in seconds.
  public let lifetime: Int64
  private let now: @Sendable () -> Timestamp
  private let logger: Logger
  private let loaded: Mutex<(stamp: AuthorityFilesStamp, material: AuthorityMaterial)>

  /// Reads and checks the directory: the key is that of `ca-cert.pem`, which is an authority, valid now, and leads
  /// to `root-cert.pem`.
  ///
  /// `lifetime` is what `SECRET_TTL` says (identity.md §3), a day by default, held between one second and ten years.
  /// Throws the first fault found, naming its file.
  public init(
    directory: String, lifetime: Duration = .seconds(86400), logger: Logger = Logger(label: "identity"),
    now: @escaping @Sendable () -> Timestamp = { .now }
  ) throws(IdentityError) {
    self.directory = directory
    self.lifetime = min(max(lifetime.components.seconds, 1), 10 * 365 * 86400)
    self.logger = logger
    self.now = now
    // The stamp is taken first: a change while reading is then seen as a change afterwards.
    let stamp = AuthorityFilesStamp(directory: directory)
    loaded = Mutex((stamp, try AuthorityMaterial.load(directory: directory, now: now())))
  }

  /// Signs a certificate: fresh P-256 key, empty subject, one critical URI, both usages, back-dated by two minutes,
  /// never outliving the authority. Takes well under a millisecond of this thread.
  public func issue(_ identity: SPIFFEIdentity) async throws(IdentityError) -> WorkloadCertificate {
    let now = now()
    let material = current(at: now)
    guard now <= material.notAfter else {
      throw .authorityNotValid(
        path: AuthorityFile.certificate.path(in: directory), notBefore: material.certificate.notBefore,
        notAfter: material.notAfter)
    }
    let template = CertificateTemplate(
      alternativeNames: [.uri(identity.description)], usages: [.serverAuthentication, .clientAuthentication],
      notBefore: max(now.advanced(bySeconds: -Self.backdating), material.certificate.notBefore),
      notAfter: min(now.advanced(bySeconds: lifetime), material.notAfter))
    do throws(TLSError) {
      let key = try PrivateKey.generate()
      let leaf = try template.signed(for: key, by: (material.certificate, material.key))
      return try WorkloadCertificate(
        chain: [leaf] + material.intermediates, privateKey: key, roots: material.roots)
    } catch {
      throw .issueFailed(identity, reason: error.summary)
    }
  }

  /// The authority as it is on disk now, or as it was where the disk holds no usable one.
  private func current(at now: Timestamp) -> AuthorityMaterial {
    let stamp = AuthorityFilesStamp(directory: directory)
    return loaded.withLock { loaded in
      if stamp == loaded.stamp { return loaded.material }
      do throws(IdentityError) {
        loaded = (stamp, try AuthorityMaterial.load(directory: directory, now: now))
        logger.info("the certificate authority was replaced", metadata: ["directory": "\(directory)"])
      } catch {
        // The stamp stays as it was, so that the next issue looks again.
        logger.warning(
          "the replaced certificate authority is not usable; the one before goes on signing",
          metadata: ["directory": "\(directory)", "error": "\(error)"])
      }
      return loaded.material
    }
  }
}
