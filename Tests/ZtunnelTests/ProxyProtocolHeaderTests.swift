import Testing
import Vocabulary

@testable import Ztunnel

@Suite("A PROXY v2 header")
struct ProxyProtocolHeaderTests {
  private static let signature: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]

  private func header(_ source: String, _ destination: String, _ identity: SPIFFEIdentity? = nil) throws -> [UInt8] {
    let source = try #require(SocketAddress(source))
    let destination = try #require(SocketAddress(destination))
    return ProxyProtocolHeader(source: source, destination: destination, identity: identity).bytes
  }

  @Test("of an IPv4 connection has both addresses and ports, in network order")
  func four() throws {
    #expect(
      try header("10.1.2.3:4097", "10.0.0.1:80")
        == Self.signature + [0x21, 0x11, 0, 12, 10, 1, 2, 3, 10, 0, 0, 1, 0x10, 0x01, 0, 80])
  }

  @Test("of an IPv6 connection has both addresses and ports, in network order")
  func six() throws {
    let zeros = [UInt8](repeating: 0, count: 13)
    let source: [UInt8] = [0xfd, 0x01] + zeros + [2]
    let destination: [UInt8] = [0xfd, 0x02] + zeros + [3]
    #expect(
      try header("[fd01::2]:4097", "[fd02::3]:443")
        == Self.signature + [0x21, 0x21, 0, 36] + source + destination + [0x10, 0x01, 0x01, 0xbb])
  }

  @Test("of a connection between families names no addresses, and the identity still")
  func mixed() throws {
    let identity = SPIFFEIdentity(trustDomain: "td", namespace: "n", serviceAccount: "s")
    let text = Array("spiffe://td/ns/n/sa/s".utf8)
    #expect(
      try header("10.1.2.3:4097", "[fd02::3]:443", identity)
        == Self.signature + [0x21, 0x00, 0, UInt8(text.count + 3), 0xd0, 0, UInt8(text.count)] + text)
  }

  @Test("carries the peer's SPIFFE id as TLV 0xD0 after the addresses")
  func identity() throws {
    let identity = SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "web")
    let text = Array("spiffe://cluster.local/ns/shop/sa/web".utf8)
    let bytes = try header("10.1.2.3:1", "10.0.0.1:2", identity)
    #expect(Array(bytes[14..<16]) == [0, UInt8(12 + 3 + text.count)])
    #expect(Array(bytes[28...]) == [0xd0, 0, UInt8(text.count)] + text)
  }
}
