import COpenSSL

/// The contents of a CRL file: which certificates are revoked, by issuer (hbone.md §2.5). Never changed; safe to share
/// between threads.
///
/// A certificate without a list of its issuer is taken as good, and a list that is past its next update still counts: both
/// are the reference's, since a mesh must not stop because a list was not renewed. A list's signature is verified
/// against the issuer in the peer's own chain before the list is believed.
public final class RevocationList: Sendable {
  // libcrypto locks the index it builds at the first look-up; nobody else changes a list.
  nonisolated(unsafe) private let lists: [OpaquePointer]
  /// Indices of `lists` by the hash of the issuer's name.
  private let byIssuer: [CUnsignedLong: [Int]]

  /// Largest file taken, in bytes.
  public static let maximumSize = 16 << 20

  /// Lists in the file.
  public var count: Int { lists.count }

  /// What a revoked certificate is to people: its serial number in decimal.
  public struct Revoked: Equatable, Sendable {
    public let serialNumber: String
    public let subject: String
  }

  /// Reads a PEM bundle, of which blocks that are no list are passed over, or one list in DER. Nothing at all revokes
  /// nobody. `subject` names the source in errors. Throws `revocationListMalformed`, also where one of several lists
  /// cannot be read.
  public init(_ bytes: [UInt8], subject: String = "CRL") throws(TLSError) {
    guard bytes.count <= Self.maximumSize else {
      throw .revocationListMalformed(subject, reason: "longer than \(Self.maximumSize) bytes")
    }
    var blocks: [[UInt8]] = []
    let start = bytes.drop { $0 == 0x20 || (0x09...0x0d).contains($0) }
    if start.starts(with: "-----BEGIN".utf8) {
      do throws(TLSError) {
        blocks = try PEMBlock.parse(bytes, subject: subject, maximumText: Self.maximumSize, maximumBlock: bytes.count)
          .filter { $0.label == "X509 CRL" }.map(\.bytes)
      } catch { throw .revocationListMalformed(subject, reason: Self.reason(error)) }
    } else if !start.isEmpty {
      blocks = [bytes]
    }
    var lists: [OpaquePointer] = []
    var byIssuer: [CUnsignedLong: [Int]] = [:]
    var failure: String?
    for block in blocks {
      guard let list = Self.parse(block) else {
        failure = OpenSSLErrors.takeReason()
        break
      }
      byIssuer[Self.hash(X509_CRL_get_issuer(list)), default: []].append(lists.count)
      lists.append(list)
    }
    self.lists = lists
    self.byIssuer = byIssuer
    // From here on every property is set, so that a throw frees the lists in `deinit`.
    if let failure { throw .revocationListMalformed(subject, reason: failure) }
  }

  deinit { for list in lists { X509_CRL_free(list) } }

  /// The first certificate of the chain that its issuer has revoked; the anchor is not looked at.
  public func revoked(in chain: VerifiedChain) -> Revoked? {
    guard !lists.isEmpty else { return nil }
    defer { ERR_clear_error() }
    for (certificate, issuer) in zip(chain.certificates, chain.certificates.dropFirst())
    where isRevoked(certificate, by: issuer) {
      return Revoked(
        serialNumber: Certificate.decimal(X509_get0_serialNumber(certificate)) ?? "",
        subject: PeerVerification.name(of: certificate))
    }
    return nil
  }

  private func isRevoked(_ certificate: OpaquePointer, by issuer: OpaquePointer) -> Bool {
    let name = X509_get_issuer_name(certificate)
    for index in byIssuer[Self.hash(name)] ?? [] {
      let list = lists[index]
      var entry: OpaquePointer?
      // 1 is revoked; 2 is "removed from the list", which lifts a hold.
      guard X509_NAME_cmp(X509_CRL_get_issuer(list), name) == 0,
        X509_CRL_get0_by_cert(list, &entry, certificate) == 1
      else { continue }
      // Only what matters is verified, and it hardly ever does.
      if X509_CRL_verify(list, X509_get0_pubkey(issuer)) == 1 { return true }
    }
    return false
  }

  private static func parse(_ der: [UInt8]) -> OpaquePointer? {
    der.withUnsafeBufferPointer { bytes in
      var cursor = bytes.baseAddress
      guard let list = d2i_X509_CRL(nil, &cursor, bytes.count) else { return nil }
      guard let cursor, let base = bytes.baseAddress, cursor - base == bytes.count else {
        X509_CRL_free(list)
        return nil
      }
      return list
    }
  }

  private static func hash(_ name: OpaquePointer?) -> CUnsignedLong { X509_NAME_hash_ex(name, nil, nil, nil) }

  private static func reason(_ error: TLSError) -> String {
    if case .certificateMalformed(_, let reason) = error { reason } else { error.summary }
  }
}
