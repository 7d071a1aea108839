import COpenSSL
import Vocabulary

/// What a server outside the mesh is dialled by, and what its certificate must be for.
public enum ServerName: Hashable, Sendable, CustomStringConvertible {
  case dns(String)
  case ip(IPAddress)

  /// An address where the text is one, else a DNS name: letters, digits, `-`, `_` and `.`, at most 253 bytes and none
  /// of its labels empty. Nil for anything else, a wildcard included.
  public init?(_ text: String) {
    if let ip = IPAddress(text) {
      self = .ip(ip)
      return
    }
    let labels = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard text.utf8.count <= 253, labels.allSatisfy({ (1...63).contains($0.count) && $0.allSatisfy(Self.isLegal) })
    else { return nil }
    self = .dns(text)
  }

  public var description: String {
    switch self {
    case .dns(let name): name
    case .ip(let address): "\(address)"
    }
  }

  private static func isLegal(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
      true
    default: false
    }
  }

  /// Whether a subject alternative name of the certificate is this name. The subject itself is not looked at
  /// (RFC 9525 §2), and a wildcard stands for one whole label.
  func isNamed(in certificate: OpaquePointer) -> Bool {
    defer { ERR_clear_error() }
    switch self {
    case .dns(let name):
      let flags = CUnsignedInt(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)
      return X509_check_host(certificate, name, name.utf8.count, flags, nil) == 1
    case .ip(let address):
      let bytes = address.bytes
      return X509_check_ip(certificate, bytes, bytes.count, 0) == 1
    }
  }
}
