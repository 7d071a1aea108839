import COpenSSL
import Glibc
import Vocabulary

/// An X.509 certificate, read once and never changed. Safe to share between threads.
public final class Certificate: Sendable {
  // libcrypto counts references atomically and caches extensions behind its own lock; nobody here changes the object.
  nonisolated(unsafe) let x509: OpaquePointer

  /// All URI names, in the certificate's order.
  public let uris: [String]
  /// Those that are SPIFFE ids of a service account, in the certificate's order (identity.md §2).
  public let identities: [SPIFFEIdentity]
  /// The serial number in decimal.
  public let serialNumber: String
  /// The first second the certificate is valid.
  public let notBefore: Timestamp
  /// The last second the certificate is valid.
  public let notAfter: Timestamp
  /// The subject as one line such as `/O=Istio/CN=Root CA`; empty where there is none.
  public let subject: String
  /// Whether it may sign other certificates (basic constraints).
  public let isAuthority: Bool
  /// Whether issuer and subject are the same name and key: a root.
  public let isSelfSigned: Bool

  /// The first SPIFFE id: the one policies and logs use (hbone.md §2.2).
  public var identity: SPIFFEIdentity? { identities.first }

  /// Takes ownership of `x509`, also when it throws `certificateMalformed`.
  init(adopting x509: OpaquePointer, subject name: String) throws(TLSError) {
    self.x509 = x509
    do throws(SubjectAlternativeNames.Malformed) {
      uris = try SubjectAlternativeNames.uris(of: x509)
    } catch {
      X509_free(x509)
      throw .certificateMalformed(name, reason: error.reason)
    }
    identities = uris.compactMap { SPIFFEIdentity(uri: $0) }
    guard let serialNumber = Self.decimal(X509_get0_serialNumber(x509)),
      let notBefore = Self.timestamp(X509_get0_notBefore(x509)),
      let notAfter = Self.timestamp(X509_get0_notAfter(x509))
    else {
      X509_free(x509)
      throw .certificateMalformed(name, reason: "its serial number or validity cannot be read")
    }
    self.serialNumber = serialNumber
    self.notBefore = notBefore
    self.notAfter = notAfter
    subject = Self.line(X509_get_subject_name(x509))
    isAuthority = X509_check_ca(x509) == 1
    isSelfSigned = X509_self_signed(x509, 0) == 1
    ERR_clear_error()
  }

  deinit { X509_free(x509) }

  /// Parses exactly one certificate in DER. `subject` names the source in errors.
  ///
  /// Throws `certificateMalformed` for anything else, including bytes after the certificate.
  public convenience init(der: [UInt8], subject: String = "certificate") throws(TLSError) {
    guard der.count <= PEMBlock.maximumBlock else {
      throw .certificateMalformed(subject, reason: "longer than \(PEMBlock.maximumBlock) bytes")
    }
    let (parsed, rest) = der.withUnsafeBufferPointer { bytes -> (OpaquePointer?, Int) in
      var cursor = bytes.baseAddress
      let parsed = d2i_X509(nil, &cursor, bytes.count)
      let consumed = cursor.flatMap { end in bytes.baseAddress.map { end - $0 } } ?? 0
      return (parsed, bytes.count - consumed)
    }
    guard let parsed else {
      throw .certificateMalformed(subject, reason: OpenSSLErrors.takeReason())
    }
    guard rest == 0 else {
      X509_free(parsed)
      throw .certificateMalformed(subject, reason: "\(rest) bytes follow the certificate")
    }
    try self.init(adopting: parsed, subject: subject)
  }

  /// Parses certificates in DER one behind the other, as SPIFFE has them; at least one, at most ``PEMBlock/maximumBlocks``.
  /// `subject` names the source in errors. Throws `certificateMalformed`.
  public static func parse(concatenatedDER bytes: [UInt8], subject: String) throws(TLSError) -> [Certificate] {
    guard bytes.count <= PEMBlock.maximumText else {
      throw .certificateMalformed(subject, reason: "longer than \(PEMBlock.maximumText) bytes")
    }
    var certificates: [Certificate] = []
    var rest = bytes[...]
    while !rest.isEmpty {
      let length = rest.withUnsafeBufferPointer { bytes -> Int in
        var cursor = bytes.baseAddress
        var (tag, kind, size) = (CInt(0), CInt(0), 0)
        let form = ASN1_get_object(&cursor, &size, &tag, &kind, bytes.count)
        guard form & 0x80 == 0, let cursor, let base = bytes.baseAddress, size >= 0 else { return 0 }
        return cursor - base + size
      }
      ERR_clear_error()
      guard (1...rest.count).contains(length), certificates.count < PEMBlock.maximumBlocks else {
        throw .certificateMalformed(subject, reason: "it is no row of DER certificates")
      }
      certificates.append(try Certificate(der: Array(rest.prefix(length)), subject: subject))
      rest = rest.dropFirst(length)
    }
    guard !certificates.isEmpty else { throw .certificateMalformed(subject, reason: "it holds no certificate") }
    return certificates
  }

  /// Parses the certificates of a PEM text in order; at least one. `subject` names the source in errors.
  ///
  /// Throws `certificateMalformed` where there is none, where one does not parse, and where a block is something else
  /// than a certificate (identity.md §4).
  public static func parse(pem: [UInt8], subject: String = "certificates") throws(TLSError) -> [Certificate] {
    var certificates: [Certificate] = []
    for block in try PEMBlock.parse(pem, subject: subject) {
      guard block.label == "CERTIFICATE" else {
        throw .certificateMalformed(subject, reason: "a \(block.label) stands where a certificate is expected")
      }
      certificates.append(try Certificate(der: block.bytes, subject: subject))
    }
    guard !certificates.isEmpty else {
      throw .certificateMalformed(subject, reason: "it holds no PEM certificate")
    }
    return certificates
  }

  /// ``parse(pem:subject:)`` of a text.
  public static func parse(pem: String, subject: String = "certificates") throws(TLSError) -> [Certificate] {
    try parse(pem: Array(pem.utf8), subject: subject)
  }

  /// The certificate as a PEM block with a newline at its end.
  public func pem() throws(TLSError) -> String {
    let sink = try MemoryBIO()
    guard PEM_write_bio_X509(sink.raw, x509) == 1 else {
      throw .contextFailed(step: "write a certificate", reason: OpenSSLErrors.takeReason())
    }
    return String(decoding: sink.contents(), as: UTF8.self)
  }

  /// The certificate in DER. Throws `contextFailed` where libcrypto has no memory.
  public func der() throws(TLSError) -> [UInt8] {
    let sink = try MemoryBIO()
    guard i2d_X509_bio(sink.raw, x509) == 1 else {
      throw .contextFailed(step: "write a certificate", reason: OpenSSLErrors.takeReason())
    }
    return sink.contents()
  }

  /// Whether `key` is the private half of the certificate's key.
  public func matches(_ key: PrivateKey) -> Bool {
    defer { ERR_clear_error() }
    return X509_check_private_key(x509, key.key) == 1
  }

  /// Whether `instant` lies in the validity, both ends included.
  public func isValid(at instant: Timestamp) -> Bool {
    (notBefore...max(notBefore, notAfter)).contains(instant) && notBefore <= notAfter
  }

  static func timestamp(_ time: UnsafePointer<ASN1_TIME>?) -> Timestamp? {
    var parts = tm()
    guard let time, ASN1_TIME_to_tm(time, &parts) == 1 else {
      ERR_clear_error()
      return nil
    }
    return Timestamp(secondsSinceEpoch: Int64(timegm(&parts)))
  }

  static func line(_ name: OpaquePointer?) -> String {
    guard let name, X509_NAME_entry_count(name) > 0 else { return "" }
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
      guard let base = buffer.baseAddress, let text = X509_NAME_oneline(name, base, CInt(buffer.count)) else {
        return ""
      }
      return String(cString: text)
    }
  }

  static func decimal(_ serial: UnsafePointer<ASN1_INTEGER>?) -> String? {
    // RFC 5280 §4.1.2.2 ends serial numbers at 20 bytes; the conversion to decimal is quadratic, so the end counts.
    guard let serial, serial.pointee.length <= 32, let number = ASN1_INTEGER_to_BN(serial, nil) else { return nil }
    defer { BN_free(number) }
    guard let digits = BN_bn2dec(number) else { return nil }
    defer { CRYPTO_free(digits, #file, 0) }
    return String(cString: digits)
  }
}

extension Certificate: Hashable {
  /// Equal are certificates with the same bytes.
  public static func == (left: Certificate, right: Certificate) -> Bool {
    left === right || X509_cmp(left.x509, right.x509) == 0
  }

  public func hash(into hasher: inout Hasher) {
    hasher.combine(serialNumber)
    hasher.combine(notAfter)
  }
}
