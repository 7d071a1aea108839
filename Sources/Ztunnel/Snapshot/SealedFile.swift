import TLS

/// The form of what is kept over a restart: a mark with the version, a salt, then records, each behind its length in four
/// bytes and sealed under its own number. Pure but for the salt's randomness. ``SealedReader`` reads it.
///
/// Whoever does not have the key can neither read nor change it nor move records about. What no seal can tell is that the
/// whole file was put back to an earlier state of itself, which the age limit bounds.
struct SealedFile: Sendable {
  /// What is sealed, in the mark and in the key.
  enum Kind: String, Sendable {
    case mesh = "ambient snapshot 2 mesh"
    case certificates = "ambient snapshot 1 keys"
  }

  /// The beginning of a new file.
  let header: [UInt8]
  private let sealer: Sealer
  private var next: UInt64 = 0

  /// Largest file, in bytes.
  static let largest = 256 << 20
  /// Bytes of a record's length.
  static let lengthSize = 4

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
    return (0..<Self.lengthSize).map { UInt8(truncatingIfNeeded: sealed.count >> (24 - 8 * $0)) } + sealed
  }
}
