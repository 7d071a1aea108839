import Foundation
import Identity
import TLS
import Vocabulary

/// Certificates of a peer that a test plays: what an honest one would have, and what it must not get away with.
enum PeerCertificate: CaseIterable {
  case good
  case ofAnotherAuthority
  case expired
  case ofAnotherTrustDomain

  /// Signs one for a service account of the mesh's only namespace.
  func issue(in mesh: MeshFixture, serviceAccount: String) throws -> WorkloadCertificate {
    var authority = mesh.authorityDirectory
    var life: ClosedRange<Int64> = -60...3600
    var trustDomain = "cluster.local"
    switch self {
    case .good: break
    case .ofAnotherAuthority:
      authority = mesh.directory + "/other-ca"
      if !FileManager.default.fileExists(atPath: authority) { try DevelopmentAuthority.create(in: authority) }
    case .expired: life = -3600 ... -60
    case .ofAnotherTrustDomain: trustDomain = "elsewhere.example"
    }
    func read(_ name: String) throws -> String { try String(contentsOfFile: "\(authority)/\(name)", encoding: .utf8) }
    let issuer = try Certificate.parse(pem: read("ca-cert.pem"))
    let key = try PrivateKey.generate()
    let now = Timestamp.now
    let template = CertificateTemplate(
      alternativeNames: [.uri("spiffe://\(trustDomain)/ns/demo/sa/\(serviceAccount)")],
      usages: [.clientAuthentication, .serverAuthentication],
      notBefore: now.advanced(bySeconds: life.lowerBound), notAfter: now.advanced(bySeconds: life.upperBound))
    let leaf = try template.signed(for: key, by: (issuer[0], try PrivateKey(pem: read("ca-key.pem"))))
    // The peer itself trusts the mesh, so that only the other side has a reason to refuse.
    let roots = try Certificate.parse(
      pem: String(contentsOfFile: "\(mesh.authorityDirectory)/root-cert.pem", encoding: .utf8))
    return try WorkloadCertificate(chain: [leaf] + issuer, privateKey: key, roots: roots)
  }
}

extension MeshPod {
  /// Its identity as a value.
  var spiffe: SPIFFEIdentity {
    SPIFFEIdentity(trustDomain: "cluster.local", namespace: "demo", serviceAccount: serviceAccount)
  }
}
