import Testing

@testable import Vocabulary

@Suite struct SocketAddressTests {
  @Test(
    "an address is written as it is read",
    arguments: ["1.2.3.4:80", "1.2.3.4:0", "0.0.0.0:65535", "[::1]:15008", "[2001:db8::1]:443", "[::ffff:1.2.3.4]:80"])
  func roundTrip(_ text: String) throws {
    #expect(try #require(SocketAddress(text)).description == text)
  }

  @Test(
    "text that is no address with a port is refused",
    arguments: [
      "", ":", ":80", "80", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:+80", "1.2.3.4: 80",
      "1.2.3.4:80 ", "[1.2.3.4]:80", "::1:80", "2001:db8::1:80", "[::1]", "[::1]80", "[::1:80", "::1]:80", "[]:80",
      "[:80", "]:80", "[[::1]]:80", "[::1%eth0]:80", "host:80", "1.2.3.4:８０", "1.2.3.4\0:80", "1.2.3.4:80\0",
      "1.2.3.4:99999999999999999999",
    ])
  func refused(_ text: String) {
    #expect(SocketAddress(text) == nil)
  }

  @Test("a mapped address is unwrapped on request only")
  func canonical() throws {
    let mapped = try #require(SocketAddress("[::ffff:10.0.0.1]:80"))
    #expect(mapped.ip.family == .v6)
    #expect(mapped.canonical.description == "10.0.0.1:80")
  }
}
