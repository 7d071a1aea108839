import Vocabulary

/// Where and how what is known is kept over a restart.
public struct SnapshotConfiguration: Hashable, Sendable {
  /// Directory of the sealed files, `AMBIENT_SNAPSHOT_PATH`.
  public let directory: String
  /// The file with the secret that seals them, `AMBIENT_SNAPSHOT_KEY`, or the systemd credential of the name
  /// ``credential``.
  public let keyPath: String
  /// Older ones are not used, `AMBIENT_SNAPSHOT_MAX_AGE`.
  public let maximumAge: Duration
  /// Whether certificates and their keys are kept too, `AMBIENT_SNAPSHOT_CERTIFICATES`.
  public let keepsCertificates: Bool

  /// The credential that systemd hands over with `LoadCredential=` or `LoadCredentialEncrypted=`.
  public static let credential = "ambient-snapshot-key"
}

extension EnvironmentReader {
  /// Nil unless `AMBIENT_SNAPSHOT_PATH` is set.
  mutating func snapshot() -> SnapshotConfiguration? {
    let age =
      duration("AMBIENT_SNAPSHOT_MAX_AGE", in: .seconds(60)...(.seconds(365 * 86_400))) ?? .seconds(86_400)
    let keepsCertificates = bool("AMBIENT_SNAPSHOT_CERTIFICATES", default: true)
    let key = path("AMBIENT_SNAPSHOT_KEY", "the path of a file with 32 random bytes or more")
    guard let directory = path("AMBIENT_SNAPSHOT_PATH", "a directory") else { return nil }
    let credential = value("CREDENTIALS_DIRECTORY").map { "\($0)/\(SnapshotConfiguration.credential)" }
    guard let key = key ?? credential else {
      report(
        "AMBIENT_SNAPSHOT_KEY",
        "is not set: what is kept on disk is sealed with the key in that file, or in the systemd credential "
          + SnapshotConfiguration.credential)
      return nil
    }
    return SnapshotConfiguration(
      directory: directory, keyPath: key, maximumAge: age, keepsCertificates: keepsCertificates)
  }
}
