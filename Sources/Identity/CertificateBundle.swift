import IstioAPI
import TLS
import Vocabulary

/// Certificates with their keys as bytes, in the form in which a SPIFFE agent sends them. Whoever writes them anywhere
/// seals them first.
public enum CertificateBundle {
  /// Throws ``TLSError`` or an error of encoding.
  public static func bytes(of certificates: [WorkloadCertificate]) throws -> [UInt8] {
    var response = X509SVIDResponse()
    for certificate in certificates {
      guard let identity = certificate.identity else { continue }
      var message = X509SVID()
      message.spiffeID = identity.description
      message.x509Svid = .init(try certificate.chain.flatMap { try $0.der() })
      message.x509SvidKey = .init(try certificate.privateKey.der())
      message.bundle = .init(try certificate.roots.flatMap { try $0.der() })
      response.svids.append(message)
      for (domain, roots) in certificate.federatedRoots {
        response.federatedBundles["spiffe://\(domain)"] = .init(try roots.flatMap { try $0.der() })
      }
    }
    return try response.serializedBytes()
  }

  /// The certificates in these bytes; those that cannot be read are left out.
  public static func read(_ bytes: [UInt8]) -> [WorkloadCertificate] {
    guard let response = try? X509SVIDResponse(serializedBytes: bytes) else { return [] }
    return AgentIdentities(response).certificates
  }
}
