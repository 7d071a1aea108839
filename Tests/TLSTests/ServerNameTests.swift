import Testing
import Vocabulary

@testable import TLS

@Suite("Server names")
struct ServerNameTests {
  @Test("a text is an address or a DNS name")
  func kinds() {
    #expect(ServerName("istiod.istio-system.svc") == .dns("istiod.istio-system.svc"))
    #expect(ServerName("10.0.0.1") == .ip(.v4(0x0a00_0001)))
    #expect(ServerName("::1") == .ip(.v6(0, 1)))
  }

  @Test(
    "what is neither is refused",
    arguments: ["", ".", "a..b", "*.example", "a b", "a/b", "a\0b", "ä", String(repeating: "a", count: 64)])
  func refused(_ text: String) {
    #expect(ServerName(text) == nil)
  }

  /// One certificate for the whole table: the names it is for are those of the first column.
  @Test(
    "a certificate is for exactly the names in it",
    arguments: [
      ("istiod.sys.svc", true), ("ISTIOD.sys.svc", true), ("other.sys.svc", false), ("x.wild.test", true),
      ("wild.test", false), ("a.b.wild.test", false), ("Root", false), ("10.0.0.1", false), ("sys.svc", false),
    ])
  func names(_ text: String, _ isNamed: Bool) throws {
    let certificate = try CertificateTemplate(
      commonName: "Root", alternativeNames: [.dns("istiod.sys.svc"), .dns("*.wild.test"), .dns("10.0.0.1")],
      notBefore: .now, notAfter: .now.advanced(bySeconds: 60)
    ).signed(for: .generate())
    let name = try #require(ServerName(text))
    #expect(name.isNamed(in: certificate.x509) == isNamed)
  }
}
