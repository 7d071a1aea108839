import Glibc
import Linux
import TLS

/// The form of what is kept over a restart: a mark with the version, a salt, then records, each behind its length in four
/// bytes and sealed under its own number. Pure but for the secret's randomness.
///
/// Whoever does not have the key can neither read nor change it nor move records about. What no seal can tell is that the
/// whole file was put back to an earlier state of itself, which the age limit bounds.
struct SealedFile: Sendable {
  /// What is sealed, in the mark and in the key.
  enum Kind: String, Sendable {
    case mesh = "ambient snapshot 1 mesh"
    case certificates = "ambient snapshot 1 keys"
  }

  /// The beginning of a new file.
  let header: [UInt8]
  private let sealer: Sealer
  private var next: UInt64 = 0

  /// Largest file, in bytes.
  static let largest = 256 << 20

  /// A new file, with a salt of its own. Throws ``TLSError``.
  init(_ kind: Kind, secret: [UInt8]) throws(TLSError) {
    let salt = try Sealer.makeSalt()
    header = Array(kind.rawValue.utf8) + salt
    sealer = try Sealer(secret: secret, salt: salt, purpose: kind.rawValue)
  }

  /// The bytes that add a record to the file. Throws ``TLSError``.
  mutating func append(_ record: [UInt8]) throws(TLSError) -> [UInt8] {
    let sealed = try sealer.seal(record, number: next)
    next += 1
    return (0..<4).map { UInt8(truncatingIfNeeded: sealed.count >> (24 - 8 * $0)) } + sealed
  }

  /// The records of a file; all of them are whole, or the file is refused: what is missing may be what denies. Throws
  /// ``SnapshotError``; `path` names the file in it.
  static func records(
    of bytes: [UInt8], _ kind: Kind, secret: [UInt8], path: String
  ) throws(SnapshotError) -> [[UInt8]] {
    let mark = Array(kind.rawValue.utf8)
    guard bytes.starts(with: mark), bytes.count >= mark.count + Sealer.saltSize else { throw .foreign(path: path) }
    var rest = bytes.dropFirst(mark.count)
    let salt = Array(rest.prefix(Sealer.saltSize))
    rest = rest.dropFirst(Sealer.saltSize)
    guard let sealer = try? Sealer(secret: secret, salt: salt, purpose: kind.rawValue) else {
      throw .sealBroken(path: path, record: 0)
    }
    var records: [[UInt8]] = []
    while !rest.isEmpty {
      guard rest.count >= 4 else { throw .malformed(path: path) }
      let length = rest.prefix(4).reduce(0) { $0 << 8 | Int($1) }
      rest = rest.dropFirst(4)
      guard length <= rest.count else { throw .malformed(path: path) }
      let number = UInt64(records.count)
      guard let record = sealer.open(Array(rest.prefix(length)), number: number) else {
        throw .sealBroken(path: path, record: number)
      }
      records.append(record)
      rest = rest.dropFirst(length)
    }
    return records
  }
}

/// The directory and the secret of snapshots. Safe to share between threads.
struct SnapshotVault: Sendable {
  let directory: String
  let secret: [UInt8]

  /// Reads the secret. Throws ``SnapshotError``.
  init(_ configuration: SnapshotConfiguration) throws(SnapshotError) {
    directory = configuration.directory
    let path = configuration.keyPath
    do throws(SystemError) { secret = try WholeFile.read(path, limit: 4096) } catch {
      throw .keyUnreadable(path: path, reason: error.reason)
    }
    guard secret.count >= Sealer.shortestSecret else {
      throw .keyTooShort(path: path, bytes: secret.count, least: Sealer.shortestSecret)
    }
    do throws(SystemError) { try Self.make(directory) } catch {
      throw .directoryUnusable(path: directory, reason: error.reason)
    }
  }

  private static func make(_ directory: String) throws(SystemError) {
    guard mkdir(directory, 0o700) != 0, errno != EEXIST else { return }
    throw SystemError("mkdir", errno, subject: directory)
  }

  func path(_ kind: SealedFile.Kind) -> String {
    switch kind {
    case .mesh: "\(directory)/mesh.sealed"
    case .certificates: "\(directory)/certificates.sealed"
    }
  }

  /// The records of a file; nil where there is none. Throws ``SnapshotError``.
  func records(_ kind: SealedFile.Kind) throws(SnapshotError) -> [[UInt8]]? {
    let path = path(kind)
    guard FileSignature(path: path) != nil else { return nil }
    let bytes: [UInt8]
    do throws(SystemError) { bytes = try WholeFile.read(path, limit: SealedFile.largest) } catch {
      throw .unreadable(path: path, reason: error.reason)
    }
    return try SealedFile.records(of: bytes, kind, secret: secret, path: path)
  }
}
