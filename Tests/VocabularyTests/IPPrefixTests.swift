import Testing

@testable import Vocabulary

@Suite struct IPPrefixTests {
  @Test(
    "host bits are cleared",
    arguments: [
      ("10.1.2.3/8", "10.0.0.0/8"), ("10.1.2.3/32", "10.1.2.3/32"), ("10.1.2.3/0", "0.0.0.0/0"),
      ("10.1.2.255/31", "10.1.2.254/31"), ("2001:db8::ff/128", "2001:db8::ff/128"), ("2001:db8::1/0", "::/0"),
      ("2001:db8:ffff:ffff::1/64", "2001:db8:ffff:ffff::/64"), ("2001:db8::ffff:1/112", "2001:db8::ffff:0/112"),
      ("2001:db8:8000::/33", "2001:db8:8000::/33"), ("ffff::1/1", "8000::/1"), ("::1/127", "::/127"),
      ("1:2:3:4:8000::/65", "1:2:3:4:8000::/65"), ("1:2:3:ffff::/63", "1:2:3:fffe::/63"),
    ])
  func masked(_ written: String, _ cleared: String) throws {
    #expect(try #require(IPPrefix(written)).description == cleared)
  }

  @Test(
    "text that is no range is refused",
    arguments: [
      "", "/", "10.0.0.0", "10.0.0.0/", "/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8",
      "10.0.0.0/ 8", "10.0.0.0/8 ", "::/129", "::/x", "10.0.0/8", "10.0.0.0/255.0.0.0", "10.0.0.0/99999999999999999999",
      "10.0.0.0\0/8", "10.0.0.0/8\0",
    ])
  func refused(_ text: String) {
    #expect(IPPrefix(text) == nil)
  }

  @Test("lengths outside the family's range are refused", arguments: [-1, 33, 129, Int.max, Int.min])
  func length(_ length: Int) {
    #expect(IPPrefix(.any(.v4), length: length) == nil)
    #expect((IPPrefix(.any(.v6), length: length) == nil) == (length != 33))
  }

  @Test(
    "a range holds its own addresses and no others",
    arguments: [
      ("10.0.0.0/8", "10.255.255.255", true), ("10.0.0.0/8", "11.0.0.0", false), ("0.0.0.0/0", "255.1.2.3", true),
      ("0.0.0.0/0", "::1", false), ("0.0.0.0/0", "::ffff:10.0.0.1", false), ("::/0", "10.0.0.1", false),
      ("::/0", "ffff::1", true), ("10.0.0.7/32", "10.0.0.7", true), ("10.0.0.7/32", "10.0.0.6", false),
      ("2001:db8::/64", "2001:db8::ffff:1", true), ("2001:db8::/64", "2001:db8:0:1::", false),
      ("2001:db8::1/128", "2001:db8::1", true), ("2001:db8::1/128", "2001:db8::2", false),
      ("2001:db8::8000:0:0:0/65", "2001:db8::7fff:0:0:0", false), ("::ffff:10.0.0.0/104", "::ffff:10.9.9.9", true),
      ("::ffff:10.0.0.0/104", "10.9.9.9", false),
    ])
  func contains(_ range: String, _ address: String, _ isInside: Bool) throws {
    #expect(try #require(IPPrefix(range)).contains(try #require(IPAddress(address))) == isInside)
  }

  @Test("the range of one address holds it alone", arguments: ["10.0.0.7", "2001:db8::7"])
  func host(_ text: String) throws {
    let address = try #require(IPAddress(text))
    let range = IPPrefix(host: address)
    #expect(range.contains(address))
    #expect(range == IPPrefix("\(text)/\(address.family == .v4 ? 32 : 128)"))
  }
}
