import Foundation
import IstioAPI
import TLS
import Testing
import Vocabulary

@testable import Identity

@Suite("What a SPIFFE agent gives")
struct AgentIdentitiesTests {
  private let issuer: TestIssuer
  private let web = SPIFFEIdentity.account("web")
  init() throws { issuer = try TestIssuer() }

  private func message(_ identity: SPIFFEIdentity, as name: String? = nil) throws -> X509SVID {
    let issued = try issuer.issue(identity, from: .now, seconds: 3600)
    var message = X509SVID()
    message.spiffeID = name ?? identity.description
    message.x509Svid = Data(try issued.leaf.der())
    message.x509SvidKey = Data(try issued.privateKey.der())
    message.bundle = Data(try issuer.root.der())
    return message
  }

  @Test("the certificate is chosen by identity; of two with one identity the first counts")
  func chosen() throws {
    var response = X509SVIDResponse()
    response.svids = [try message(.account("mail")), try message(web), try message(web)]
    let identities = AgentIdentities(response)
    #expect(identities.count == 2)
    let certificate = try identities.certificate(of: web)
    #expect(certificate.identity == web)
    #expect(try certificate.leaf.der() == Array(response.svids[1].x509Svid))
    #expect(certificate.roots == [issuer.root])
  }

  @Test("an identity that is not given is an error that says what to do")
  func notGiven() throws {
    var response = X509SVIDResponse()
    response.svids = [try message(.account("mail")), try message(.account("x"), as: "spiffe://cluster.local/agent")]
    let identities = AgentIdentities(response)
    #expect(identities.foreign == 1)
    let error = #expect(throws: IdentityError.self) { try identities.certificate(of: web) }
    #expect(error == .identityNotGiven(web, given: 1))
    #expect(error?.remedy?.contains("registration entry") == true)
  }

  @Test("bundles of other trust domains are kept apart; one that cannot be read is left out by name")
  func federated() throws {
    let partner = try TestIssuer()
    var response = X509SVIDResponse()
    response.svids = [try message(web)]
    response.federatedBundles = [
      "spiffe://partner.test": Data(try partner.root.der()), "spiffe://bad.test": Data([1, 2]),
      "spiffe://cluster.local": Data(try partner.root.der()),
    ]
    let identities = AgentIdentities(response)
    let certificate = try identities.certificate(of: web)
    #expect(certificate.federatedRoots == ["partner.test": [partner.root]], "its own domain's is in its own bundle")
    #expect(Set(identities.malformedBundles.keys) == ["bad.test"])
  }

  @Test("one bad entry spoils itself alone, and a certificate for somebody else is never used")
  func malformed() throws {
    var broken = try message(.account("broken"))
    broken.x509SvidKey = Data([0])
    var response = X509SVIDResponse()
    response.svids = [
      broken, try message(web), try message(.account("x"), as: SPIFFEIdentity.account("y").description),
    ]
    let identities = AgentIdentities(response)
    #expect(try identities.certificate(of: web).identity == web)
    #expect(throws: IdentityError.self) { try identities.certificate(of: .account("broken")) }
    let error = #expect(throws: IdentityError.self) { try identities.certificate(of: .account("y")) }
    #expect(error?.code == "IDENTITY_WRONG_SAN")
  }

  @Test("certificates survive being written down, with their keys, roots and federated bundles")
  func bundle() throws {
    let partner = try TestIssuer()
    let issued = try issuer.issue(web, from: .now, seconds: 3600)
    let certificate = try WorkloadCertificate(
      chain: issued.chain, privateKey: issued.privateKey, roots: issued.roots,
      federatedRoots: ["partner.test": [partner.root]])
    let read = try #require(CertificateBundle.read(try CertificateBundle.bytes(of: [certificate])).first)
    #expect(read.chain == certificate.chain && read.roots == certificate.roots)
    #expect(read.federatedRoots == certificate.federatedRoots)
    #expect(read.leaf.matches(certificate.privateKey))
    #expect(CertificateBundle.read([1, 2, 3]).isEmpty)
  }
}
