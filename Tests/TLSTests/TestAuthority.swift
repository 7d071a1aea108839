import TLS
import Vocabulary

/// A root and an intermediate for tests, and the certificates they sign.
struct TestAuthority {
  let rootKey: PrivateKey
  let root: Certificate
  let intermediateKey: PrivateKey
  let intermediate: Certificate

  init(name: String = "Test") throws {
    let now = Timestamp.now
    rootKey = try PrivateKey.generate()
    root = try CertificateTemplate(
      organization: name, commonName: "Root", isAuthority: true, notBefore: now.advanced(bySeconds: -86400),
      notAfter: now.advanced(bySeconds: 86400)
    ).signed(for: rootKey)
    intermediateKey = try PrivateKey.generate()
    intermediate = try CertificateTemplate(
      organization: name, commonName: "Intermediate", isAuthority: true,
      notBefore: now.advanced(bySeconds: -86400), notAfter: now.advanced(bySeconds: 86400)
    ).signed(for: intermediateKey, by: (root, rootKey))
  }

  /// The template of an ordinary workload's leaf, valid for an hour around now.
  static func leaf(_ uris: [String]) -> CertificateTemplate {
    CertificateTemplate(
      alternativeNames: uris.map { .uri($0) }, usages: [.clientAuthentication, .serverAuthentication],
      notBefore: .now.advanced(bySeconds: -1800), notAfter: .now.advanced(bySeconds: 1800))
  }

  func issue(_ template: CertificateTemplate, trusting roots: [Certificate]? = nil) throws -> WorkloadCertificate {
    let key = try PrivateKey.generate()
    let leaf = try template.signed(for: key, by: (intermediate, intermediateKey))
    return try WorkloadCertificate(chain: [leaf, intermediate], privateKey: key, roots: roots ?? [root])
  }

  func issue(_ uris: String..., trusting roots: [Certificate]? = nil) throws -> WorkloadCertificate {
    try issue(Self.leaf(uris), trusting: roots)
  }
}

extension SPIFFEIdentity {
  static let shop = SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "web")
  static let bank = SPIFFEIdentity(trustDomain: "cluster.local", namespace: "bank", serviceAccount: "vault")
}
