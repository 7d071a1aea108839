import Testing
import Vocabulary

@testable import Mesh

@Suite struct TunnelAuthorityTests {
  @Test(
    "addresses and host names with a port are understood",
    arguments: [
      ("10.0.0.1:80", TunnelAuthority.address(socket("10.0.0.1:80"))),
      ("[fd00::1]:15008", .address(socket("[fd00::1]:15008"))),
      ("[::ffff:10.0.0.1]:80", .address(SocketAddress(.v6(0, 0xffff_0a00_0001), 80))),
      ("cart.shop.svc.cluster.local:80", .hostname("cart.shop.svc.cluster.local", port: 80)),
      ("Cart.LOCAL:65535", .hostname("cart.local", port: 65535)), ("a:1", .hostname("a", port: 1)),
      ("user@cart.local:80", .hostname("cart.local", port: 80)),
      ("user:secret@cart.local:80", .hostname("cart.local", port: 80)),
      ("a@b@cart.local:80", .hostname("cart.local", port: 80)), ("user@10.0.0.1:80", .address(socket("10.0.0.1:80"))),
      ("*.example.com:443", .hostname("*.example.com", port: 443)),
      ("under_score:80", .hostname("under_score", port: 80)),
      ("1.2.3.4.5:80", .hostname("1.2.3.4.5", port: 80)), ("cart.local:00080", .hostname("cart.local", port: 80)),
    ])
  func understood(_ text: String, _ authority: TunnelAuthority) {
    #expect(TunnelAuthority(Array(text.utf8)) == authority)
  }

  @Test(
    "anything else is refused",
    arguments: [
      "", ":", ":80", "80", "cart.local", "cart.local:", "10.0.0.1", "[fd00::1]", "[fd00::1]:", "fd00::1:80", "::1",
      "[fd00::1%eth0]:80", "[10.0.0.1]:80", "[]:80", "[fd00::1:80", "fd00::1]:80", "[[fd00::1]]:80", "cart.local:0",
      "cart.local:65536", "cart.local:-1", "cart.local:+80", "cart.local:8o", "cart.local:000080", "cart.local: 80",
      " cart.local:80", "cart.local:80 ", "cart local:80", "cart.local:80/path", "http://cart.local:80", "user@:80",
      "@:80", "@", "cart.local:80@", "cart\0.local:80", "cart.local:80\0", "cart.local:80\n", "caf\u{e9}.local:80",
      "cart.local:\u{0668}\u{0660}", "a,b:80", "a;b:80", "a%20b:80", "\"a\":80", "a/b:80", "a?b:80",
    ])
  func refused(_ text: String) {
    #expect(TunnelAuthority(Array(text.utf8)) == nil)
  }

  @Test("bytes that are not text and text without end are refused")
  func hostile() {
    #expect(TunnelAuthority([0xff, 0xfe, 0x3a, 0x38]) == nil)
    #expect(TunnelAuthority(Array(String(repeating: "a", count: 254).utf8) + Array(":80".utf8)) == nil)
    #expect(TunnelAuthority([UInt8](repeating: UInt8(ascii: "a"), count: 1 << 20)) == nil)
  }

  @Test("no sequence of bytes is too strange")
  func noise() {
    var random = SeededGenerator(seed: 11)
    let alphabet = Array("0123456789.:[]@abf*-_ \0\u{e9}/".utf8)
    for _ in 0..<20_000 {
      let bytes = (0..<Int.random(in: 0...24, using: &random)).map { _ in
        alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
      }
      guard let authority = TunnelAuthority(bytes) else { continue }
      #expect(TunnelAuthority(Array(authority.description.utf8)) == authority)
    }
  }
}
