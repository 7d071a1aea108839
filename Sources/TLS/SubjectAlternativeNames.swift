import COpenSSL
import Vocabulary

/// The URI names of a certificate's subjectAltName extension (RFC 5280 §4.2.1.6).
///
/// Certificates come from peers, so the number and the length of names are capped, and a name with a byte that a URI
/// cannot hold (a NUL above all, which shortens the name for a careless reader) condemns the whole certificate.
enum SubjectAlternativeNames {
  /// More names of any kind than this are refused.
  static let maximumCount = 64
  /// A longer URI is refused: SPIFFE ids end at 2048 bytes.
  static let maximumLength = 2048

  enum Malformed: Error, Equatable {
    case duplicateOrUnreadable
    case tooMany(Int)
    case tooLong(Int)
    case forbiddenByte(UInt8)

    var reason: String {
      switch self {
      case .duplicateOrUnreadable: "its subject alternative names cannot be read"
      case .tooMany(let count): "it has \(count) subject alternative names, more than \(maximumCount)"
      case .tooLong(let length): "it has a URI of \(length) bytes, more than \(maximumLength)"
      case .forbiddenByte(let byte): "it has a URI with byte \(byte), which no URI may hold"
      }
    }
  }

  /// The URIs in the order of the certificate; empty where it has no such extension.
  static func uris(of certificate: OpaquePointer) throws(Malformed) -> [String] {
    var status: CInt = 0
    guard let extensionValue = X509_get_ext_d2i(certificate, NID_subject_alt_name, &status, nil) else {
      // -1: no such extension. Others: there are two of them, or the one does not decode.
      if status == -1 { return [] }
      ERR_clear_error()
      throw .duplicateOrUnreadable
    }
    let names = OpaquePointer(extensionValue)
    defer { GENERAL_NAMES_free(names) }

    let count = ambient_general_names_count(names)
    guard count <= maximumCount else { throw .tooMany(Int(count)) }
    var uris: [String] = []
    for index in 0..<max(0, count) {
      var length = 0
      guard let start = ambient_general_names_uri(names, index, &length) else { continue }
      guard length <= maximumLength else { throw .tooLong(length) }
      let bytes = UnsafeBufferPointer(start: start, count: length)
      if let bad = bytes.first(where: { $0 <= 0x20 || $0 >= 0x7f }) { throw .forbiddenByte(bad) }
      uris.append(String(decoding: bytes, as: UTF8.self))
    }
    return uris
  }
}
