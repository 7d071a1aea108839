import Testing

@testable import Vocabulary

@Suite struct IPAddressTests {
  @Test(
    "an address is written in its shortest form",
    arguments: [
      ("0.0.0.0", "0.0.0.0"), ("255.255.255.255", "255.255.255.255"), ("10.0.0.7", "10.0.0.7"),
      ("::", "::"), ("::1", "::1"), ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
      ("fe80:0000::0001", "fe80::1"), ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
      ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ])
  func text(_ written: String, _ shortest: String) throws {
    let address = try #require(IPAddress(written))
    #expect(address.description == shortest)
    #expect(IPAddress(address.description) == address)
  }

  @Test(
    "text that is no address is refused",
    arguments: [
      "", " ", "1", "1.2.3", "1.2.3.4.5", "256.0.0.1", "1.2.3.4 ", " 1.2.3.4", "01.2.3.4", "0x1.2.3.4", "1.2.3.-4",
      "1.2.3.4/32", ":", ":::", "1::2::3", "[::1]", "::1%eth0", "fe80::1%1", "g::1", "1:2:3:4:5:6:7", "::ffff:1.2.3",
      "1.2.3.4\0", "1.2.3.4\0evil", "::1\0", "\0", "１.2.3.4", "1.2.3.4\n", "localhost",
      "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000",
    ])
  func refused(_ text: String) {
    #expect(IPAddress(text) == nil)
  }

  @Test("bytes in network order make an address and come back", arguments: ["1.2.3.4", "2001:db8:1:2:3:4:5:6", "::"])
  func bytes(_ text: String) throws {
    let address = try #require(IPAddress(text))
    #expect(IPAddress(bytes: address.bytes) == address)
    #expect(address.bytes.count == (address.family == .v4 ? 4 : 16))
  }

  @Test("any other number of bytes makes none", arguments: [0, 1, 3, 5, 8, 15, 17, 32])
  func wrongByteCount(_ count: Int) {
    #expect(IPAddress(bytes: [UInt8](repeating: 1, count: count)) == nil)
  }

  @Test("the first byte is the most significant one")
  func byteOrder() {
    #expect(IPAddress(bytes: [10, 0, 0, 7]) == IPAddress("10.0.0.7"))
    #expect(
      IPAddress(bytes: [0x20, 1, 0x0d, 0xb8] + [UInt8](repeating: 0, count: 11) + [9]) == IPAddress("2001:db8::9"))
  }

  @Test(
    "only IPv4-mapped addresses change when made canonical",
    arguments: [
      ("::ffff:10.0.0.1", "10.0.0.1"), ("::ffff:0.0.0.0", "0.0.0.0"), ("::10.0.0.1", "::10.0.0.1"), ("::1", "::1"),
      ("1::ffff:10.0.0.1", "1::ffff:10.0.0.1"), ("10.0.0.1", "10.0.0.1"), ("64:ff9b::10.0.0.1", "64:ff9b::10.0.0.1"),
    ])
  func canonical(_ text: String, _ canonical: String) throws {
    #expect(try #require(IPAddress(text)).canonical == IPAddress(canonical))
  }

  @Test("a mapped address is another address than the one it maps")
  func mappedIsDistinct() {
    #expect(IPAddress("::ffff:10.0.0.1") != IPAddress("10.0.0.1"))
  }

  @Test(
    "loopback is 127.0.0.0/8 and ::1, mapped or not",
    arguments: [
      ("127.0.0.1", true), ("127.255.0.3", true), ("::1", true), ("::ffff:127.0.0.9", true), ("128.0.0.1", false),
      ("126.255.255.255", false), ("::2", false), ("::", false), ("1::1", false), ("::ffff:10.0.0.1", false),
    ])
  func loopback(_ text: String, _ isLoopback: Bool) throws {
    #expect(try #require(IPAddress(text)).isLoopback == isLoopback)
  }

  @Test("the named addresses are of their family", arguments: IPAddress.Family.allCases)
  func named(_ family: IPAddress.Family) {
    #expect(IPAddress.loopback(family).isLoopback)
    #expect(IPAddress.loopback(family).family == family)
    #expect(IPAddress.any(family).bytes.allSatisfy { $0 == 0 })
    #expect(IPAddress.any(family).family == family)
  }
}
