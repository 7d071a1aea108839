import Foundation
import GRPC
import IstioAPI
import TLS
import TestSupport
import Testing
import Vocabulary

@testable import Identity

@Suite("Istio's certificate service")
struct IstioAuthorityTests {
  private let identity = SPIFFEIdentity.account("a")

  private func answer(_ elements: [String]) throws -> [UInt8] {
    var response = Istio_V1_Auth_IstioCertificateResponse()
    response.certChain = elements
    return try response.serializedBytes()
  }

  private func leaf(_ issuer: TestIssuer, for identity: SPIFFEIdentity, key: PrivateKey) throws -> String {
    try CertificateTemplate(
      alternativeNames: [.uri(identity.description)], notBefore: Timestamp(secondsSinceEpoch: 0),
      notAfter: Timestamp(secondsSinceEpoch: 4_000_000_000)
    ).signed(for: key, by: (issuer.root, issuer.key)).pem()
  }

  private func errorCode(_ elements: [String], key: PrivateKey) throws -> String? {
    let bytes = try answer(elements)
    do throws(IdentityError) {
      _ = try IstioAuthority.certificate(for: identity, key: key, answer: bytes)
      return nil
    } catch {
      return error.code
    }
  }

  @Test("the first element is the leaf, the last the bundle, one certificate of each between is an intermediate")
  func parts() throws {
    let (issuer, other, key) = (try TestIssuer(), try TestIssuer(), try PrivateKey.generate())
    let between = try leaf(issuer, for: .account("x"), key: .generate())
    let unread = try leaf(issuer, for: .account("y"), key: .generate())
    let certificate = try IstioAuthority.certificate(
      for: identity, key: key,
      answer: answer([
        try leaf(issuer, for: identity, key: key), between + unread, try issuer.root.pem() + other.root.pem(),
      ]))
    #expect(certificate.identity == identity)
    #expect(certificate.intermediates.map(\.identity) == [.account("x")])
    #expect(certificate.roots == [issuer.root, other.root])
  }

  @Test("answers that are none are refused by their own code")
  func refused() throws {
    let (issuer, key) = (try TestIssuer(), try PrivateKey.generate())
    let (good, root) = (try leaf(issuer, for: identity, key: key), try issuer.root.pem())
    #expect(try errorCode([good, root], key: key) == nil)
    #expect(try errorCode([], key: key) == "IDENTITY_CHAIN_EMPTY")
    #expect(try errorCode([good], key: key) == "IDENTITY_ANSWER_MALFORMED")
    #expect(try errorCode([good, "no PEM"], key: key) == "IDENTITY_ANSWER_MALFORMED")
    #expect(try errorCode([try key.pem(), root], key: key) == "IDENTITY_ANSWER_MALFORMED")
    #expect(try errorCode([good, root], key: .generate()) == "IDENTITY_ANSWER_MALFORMED", "of another key")
    #expect(try errorCode([good] + Array(repeating: root, count: 40), key: key) == "IDENTITY_ANSWER_MALFORMED")
    let others = try leaf(issuer, for: .account("b"), key: key)
    #expect(try errorCode([others, root], key: key) == "IDENTITY_WRONG_SAN")
    #expect(throws: IdentityError.answerMalformed(identity, reason: "it cannot be decoded")) {
      try IstioAuthority.certificate(for: identity, key: key, answer: [0xff])
    }
  }

  @Test("the request asks for one critical URI with a signed request, the life wanted and the identity by name")
  func request() throws {
    let key = try PrivateKey.generate()
    let request = try Istio_V1_Auth_IstioCertificateRequest(
      serializedBytes: try IstioAuthority.request(for: identity, key: key, lifetime: 3600))
    #expect(request.validityDuration == 3600)
    #expect(request.metadata.fields["ImpersonatedIdentity"]?.stringValue == identity.description)
    let text = try Command.mustRun(
      ["openssl", "req", "-noout", "-text", "-verify", "-subject"], input: request.csr)
    #expect(text.contains("X509v3 Subject Alternative Name: critical\n                    URI:\(identity)\n"))
    #expect(text.contains("ecdsa-with-SHA256") && text.contains("prime256v1"))
    #expect(text.split(separator: "\n").contains { $0.hasPrefix("subject=") && !$0.contains("CN") })
  }

  @Test("a refusal keeps the service's own words")
  func words() {
    let error = IdentityError.authorityRefused(
      identity, GRPCStatus(.unauthenticated, "request authenticate failure"))
    #expect(error.summary.contains("signing gRPC error (UNAUTHENTICATED): request authenticate failure"))
  }
}
