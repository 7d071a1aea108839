import Identity
import TLS

/// A certificate in the form that `istioctl ztunnel-config` reads (observability.md §6.4).
enum CertificateDump {
  static func status(_ status: CertificateStatus) -> JSONValue {
    .object([
      "identity": .string(status.identity.description),
      "state": .string(status.state.description),
      "certChain": .array(status.chain.map(certificate)),
      "rootCerts": .array(status.roots.map(certificate)),
      // Also while an older certificate is still good.
      "lastError": status.lastError.map { .string($0.description) },
    ])
  }

  private static func certificate(_ certificate: Certificate) -> JSONValue {
    .object([
      "pem": .string(base64(Array(((try? certificate.pem()) ?? "").utf8))),
      "serialNumber": .string(certificate.serialNumber),
      "validFrom": .string(certificate.notBefore.description),
      "expirationTime": .string(certificate.notAfter.description),
    ])
  }

  /// RFC 4648 §4.
  static func base64(_ bytes: [UInt8]) -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count + 2) / 3 * 4)
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      let value = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - group.count))
      for index in 0..<4 {
        text.append(index <= group.count ? alphabet[Int(value >> (18 - 6 * UInt32(index)) & 63)] : 0x3d)
      }
    }
    return String(decoding: text, as: UTF8.self)
  }
}
