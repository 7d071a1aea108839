import COpenSSL

/// Authenticated encryption of numbered records (AES-256-GCM): each can be opened only whole, unchanged, in its own place
/// and for its own purpose. Safe to share between threads.
///
/// A salt is for one file and never used again, so that no number ever stands for two contents under one key.
public struct Sealer: Sendable {
  /// Bytes of a salt.
  public static let saltSize = 32
  /// What sealing adds to a record, in bytes.
  public static let overhead = 16
  /// The least a secret must have, in bytes.
  public static let shortestSecret = 32

  private let key: [UInt8]
  private let associated: [UInt8]

  /// Derives a key from `secret` (HKDF-SHA256). `purpose`, at most 200 bytes, tells kinds of files apart. Throws
  /// `sealingFailed` for a secret that is too short or where libcrypto fails.
  public init(secret: [UInt8], salt: [UInt8], purpose: String) throws(TLSError) {
    guard secret.count >= Self.shortestSecret else {
      throw .sealingFailed(reason: "the secret has \(secret.count) bytes, fewer than \(Self.shortestSecret)")
    }
    let info = Array(purpose.utf8)
    var key = [UInt8](repeating: 0, count: 32)
    guard ambient_derive_key(secret, secret.count, salt, salt.count, info, info.count, &key) == 1 else {
      throw .sealingFailed(reason: OpenSSLErrors.takeReason())
    }
    self.key = key
    associated = info
  }

  /// A fresh salt. Throws `sealingFailed` without entropy.
  public static func makeSalt() throws(TLSError) -> [UInt8] {
    var salt = [UInt8](repeating: 0, count: saltSize)
    guard RAND_bytes(&salt, CInt(salt.count)) == 1 else { throw .sealingFailed(reason: OpenSSLErrors.takeReason()) }
    return salt
  }

  /// Seals a record. A number must not be used twice. Throws `sealingFailed`.
  public func seal(_ plain: [UInt8], number: UInt64) throws(TLSError) -> [UInt8] {
    var sealed = [UInt8](repeating: 0, count: plain.count + Self.overhead)
    guard ambient_seal(key, Self.nonce(number), associated, associated.count, plain, plain.count, &sealed) == 1 else {
      throw .sealingFailed(reason: OpenSSLErrors.takeReason())
    }
    return sealed
  }

  /// The record that was sealed with this number, or nil for anything else.
  public func open(_ sealed: [UInt8], number: UInt64) -> [UInt8]? {
    guard sealed.count >= Self.overhead else { return nil }
    var plain = [UInt8](repeating: 0, count: sealed.count - Self.overhead)
    defer { ERR_clear_error() }
    let count = plain.count
    let isWhole = ambient_unseal(key, Self.nonce(number), associated, associated.count, sealed, count, &plain) == 1
    return isWhole ? plain : nil
  }

  private static func nonce(_ number: UInt64) -> [UInt8] {
    [0, 0, 0, 0] + (0..<8).map { UInt8(truncatingIfNeeded: number >> (56 - 8 * UInt64($0))) }
  }
}
