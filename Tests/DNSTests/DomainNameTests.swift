import Testing

@testable import DNS

@Suite("A domain name")
struct DomainNameTests {
  @Test(
    "is made from text with or without its last dot",
    arguments: [
      ("a.b", [1, 97, 1, 98, 0]), ("a.b.", [1, 97, 1, 98, 0]), ("*.x", [1, 42, 1, 120, 0]),
    ] as [(String, [UInt8])])
  func text(_ text: String, _ wire: [UInt8]) {
    #expect(DomainName(text)?.wire == wire)
  }

  @Test(
    "is not made from text that no name has",
    arguments: ["", ".", "..", "a..b", ".a", "a b", "ä.de", "a\\.b", String(repeating: "a", count: 64)])
  func refused(_ text: String) {
    #expect(DomainName(text) == nil)
  }

  @Test("has at most 255 bytes")
  func longest() {
    let label = String(repeating: "a", count: 63)
    let rest = String(repeating: "b", count: 61)
    #expect(DomainName("\(label).\(label).\(label).\(rest)")?.wire.count == 255)
    #expect(DomainName("\(label).\(label).\(label).\(rest)b") == nil)
  }

  @Test("is the same in upper and lower case, and nothing else is")
  func equality() {
    #expect(DomainName("WWW.Example.com") == DomainName("www.eXample.COM"))
    #expect(DomainName("a[.x") != DomainName("a{.x"))
    #expect(DomainName("ab.c") != DomainName("a.bc"))
  }

  @Test("gives a host name in lower case, unless a byte of it could be mistaken for something else")
  func hostname() throws {
    #expect(DomainName("WWW.Example.COM.")?.hostname == "www.example.com")
    #expect(try read([1, 0x2e, 1, 97, 0]).hostname == nil)
    #expect(try read([1, 0, 0]).hostname == nil)
    #expect(try read([2, 0xc3, 0xa4, 0]).hostname == nil)
    #expect(try read([0]).hostname == nil)
  }

  @Test("is written with unusual bytes escaped")
  func description() throws {
    #expect(try read([3, 97, 0x2e, 0, 1, 98, 0]).description == "a\\046\\000.b.")
    #expect(try read([0]).description == ".")
  }

  private func read(_ name: [UInt8]) throws -> DomainName {
    var reader = MessageReader([UInt8](repeating: 0, count: 12) + name, at: 12)
    return try reader.name()
  }
}

@Suite("Names inside a message")
struct MessageReaderTests {
  private let header = [UInt8](repeating: 0, count: 12)

  @Test("are followed backwards through their pointers")
  func pointers() throws {
    // com at 12, example.com at 17, www.example.com at 27.
    var bytes = header + [3, 99, 111, 109, 0]
    bytes += [7] + Array("example".utf8) + [0xc0, 12]
    bytes += [3] + Array("www".utf8) + [0xc0, 17]
    var reader = MessageReader(bytes, at: 27)
    #expect(try reader.name().hostname == "www.example.com")
    #expect(reader.index == bytes.count)
  }

  @Test(
    "are refused when they lead nowhere, forwards, in circles or too far",
    arguments: [
      ([], .truncated), ([3, 97], .truncated), ([1, 97], .truncated), ([0xc0], .truncated),
      ([0xc0, 12], .badPointer), ([0xc0, 14, 0xc0, 12], .badPointer), ([1, 97, 0xc0, 12], .badPointer),
      ([0xc0, 0], .badPointer), ([0xc0, 11], .badPointer), ([0xff, 0xff], .badPointer),
      ([0x40, 1], .unknownLabel), ([0x80, 1], .unknownLabel),
    ] as [([UInt8], DecodingError)])
  func refused(_ name: [UInt8], _ error: DecodingError) {
    var reader = MessageReader(header + name, at: 12)
    #expect(throws: error) { try reader.name() }
  }

  @Test("are refused once they are longer than a name may be")
  func tooLong() {
    var reader = MessageReader(header + (0..<5).flatMap { _ in [63] + [UInt8](repeating: 97, count: 63) } + [0], at: 12)
    #expect(throws: DecodingError.nameTooLong) { try reader.name() }
  }

  @Test("do not grow by pointing at themselves again and again")
  func chain() {
    // Each pair is a label that points to the pair before: the name grows by two bytes a step, up to its limit.
    var bytes = header + [1, 97, 0]
    var target = 12
    for _ in 0..<200 {
      let start = bytes.count
      bytes += [1, 97, 0xc0 | UInt8(target >> 8), UInt8(target & 255)]
      target = start
    }
    var reader = MessageReader(bytes, at: target)
    #expect(throws: DecodingError.nameTooLong) { try reader.name() }
  }
}
