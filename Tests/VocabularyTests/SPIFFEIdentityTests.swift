import Testing

@testable import Vocabulary

@Suite struct SPIFFEIdentityTests {
  @Test(
    "an identity is written as it is read",
    arguments: [
      "spiffe://cluster.local/ns/shop/sa/cart", "spiffe://td/ns//sa/", "spiffe:///ns//sa/",
      "spiffe://a.b-c/ns/n.1/sa/s_2",
      "spiffe://td/ns/n/sa/s%2Fx", "spiffe://td/ns/ns/sa/sa",
    ])
  func roundTrip(_ uri: String) throws {
    #expect(try #require(SPIFFEIdentity(uri: uri)).description == uri)
  }

  @Test("the parts land where they belong, and the principal has no scheme")
  func parts() throws {
    let identity = try #require(SPIFFEIdentity(uri: "spiffe://td/ns/shop/sa/cart"))
    #expect(identity == SPIFFEIdentity(trustDomain: "td", namespace: "shop", serviceAccount: "cart"))
    #expect(identity.principal == "td/ns/shop/sa/cart")
  }

  @Test(
    "anything else is no identity",
    arguments: [
      "", "spiffe://", "spiffe:/", "spiffe://td", "spiffe://td/ns/shop/sa", "spiffe://td/ns/shop/sa/cart/",
      "spiffe://td/ns/shop/sa/cart/x", "spiffe://td/sa/cart/ns/shop", "spiffe://td/NS/shop/sa/cart",
      "spiffe://td/ns/shop/SA/cart", "SPIFFE://td/ns/shop/sa/cart", " spiffe://td/ns/shop/sa/cart",
      "https://td/ns/shop/sa/cart", "td/ns/shop/sa/cart", "spiffe:///td/ns/shop/sa/cart",
      "spiffe://td//ns/shop/sa/cart",
      "spiffe://td/n%73/shop/sa/cart", "spiffe:// td/ns/shop/sa/cart", "spiffe://td/ns/sh op/sa/cart",
      "spiffe://td/ns/shop/sa/cart\0", "spiffe://td/ns/shop/sa/cart\n", "spiffe://td/ns/shop\0/sa/cart",
      "spiffe://td/ns/shop/sa/\u{212A}art", "spiffe://td/ns/shop/sa/cafe\u{301}", "spiffe://td\u{301}/ns/shop/sa/cart",
    ])
  func refused(_ uri: String) {
    #expect(SPIFFEIdentity(uri: uri) == nil)
  }

  @Test("an endless identity is refused")
  func tooLong() {
    #expect(SPIFFEIdentity(uri: "spiffe://td/ns/shop/sa/" + String(repeating: "a", count: 2049)) == nil)
    #expect(SPIFFEIdentity(uri: "spiffe://td/ns/shop/sa/" + String(repeating: "a", count: 1024)) != nil)
  }
}
