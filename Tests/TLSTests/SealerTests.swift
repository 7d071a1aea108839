import Testing
import Vocabulary

@testable import TLS

@Suite("Sealing and DER")
struct SealerTests {
  private let secret = [UInt8](repeating: 7, count: 32)

  @Test("a record comes back under its own number, salt, purpose and secret, and under no other")
  func opens() throws {
    let salt = try Sealer.makeSalt()
    let sealer = try Sealer(secret: secret, salt: salt, purpose: "a")
    let plain = Array("the mesh".utf8)
    let sealed = try sealer.seal(plain, number: 3)
    #expect(sealed.count == plain.count + Sealer.overhead)
    #expect(sealer.open(sealed, number: 3) == plain)
    #expect(sealer.open(sealed, number: 4) == nil)
    #expect(try Sealer(secret: secret, salt: salt, purpose: "b").open(sealed, number: 3) == nil)
    #expect(try Sealer(secret: secret, salt: try Sealer.makeSalt(), purpose: "a").open(sealed, number: 3) == nil)
    #expect(
      try Sealer(secret: [UInt8](repeating: 8, count: 32), salt: salt, purpose: "a").open(sealed, number: 3) == nil)
  }

  @Test("a record with any byte changed, or cut, is not opened")
  func tampered() throws {
    let sealer = try Sealer(secret: secret, salt: [], purpose: "a")
    let sealed = try sealer.seal([1, 2, 3], number: 0)
    for index in sealed.indices {
      var changed = sealed
      changed[index] ^= 1
      #expect(sealer.open(changed, number: 0) == nil)
      #expect(sealer.open(Array(sealed.prefix(index)), number: 0) == nil)
    }
    #expect(sealer.open(try sealer.seal([], number: 1), number: 1) == [])
  }

  @Test("a secret that can be guessed is refused")
  func shortSecret() {
    #expect(throws: TLSError.self) { try Sealer(secret: [1, 2, 3], salt: [], purpose: "a") }
  }

  @Test("certificates and keys survive their DER form; a row of certificates is read in order")
  func der() throws {
    let authority = try TestAuthority()
    let issued = try authority.issue(SPIFFEIdentity.shop.description)
    let row = try issued.chain.flatMap { try $0.der() }
    #expect(try Certificate.parse(concatenatedDER: row, subject: "row") == issued.chain)
    #expect(issued.leaf.matches(try PrivateKey(der: try issued.privateKey.der())))
    for bytes in [[], [1, 2, 3], row + [0], Array(row.dropLast())] {
      #expect(throws: TLSError.self) { try Certificate.parse(concatenatedDER: bytes, subject: "row") }
    }
    #expect(throws: TLSError.self) { try PrivateKey(der: row) }
  }
}
