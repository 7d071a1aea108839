import Testing
import Vocabulary

@testable import DNS

@Suite("A lookup of addresses by this process itself")
struct AddressLookupTests {
  private func lookup(_ name: String, _ family: IPAddress.Family = .v4) throws -> AddressLookup {
    try #require(AddressLookup(hostname: name, family, id: 0x1234))
  }

  private func asked(_ lookup: AddressLookup) throws -> Query {
    guard case .query(let query) = Intake(lookup.message) else { throw DecodingError.truncated }
    return query
  }

  private func record(_ owner: [UInt8], _ type: UInt8, _ data: [UInt8], recordClass: UInt8 = 1) -> [UInt8] {
    owner + [0, type, 0, recordClass, 0, 0, 0, 30, 0, UInt8(data.count)] + data
  }

  private func reply(_ lookup: AddressLookup, flags: [UInt8] = [0x81, 0x80], _ records: [[UInt8]]) -> [UInt8] {
    [0x12, 0x34] + flags + [0, 1, 0, UInt8(records.count), 0, 0, 0, 0] + lookup.message.dropFirst(12)
      + records.joined()
  }

  @Test("asks one question as any client would")
  func question() throws {
    let query = try asked(try lookup("shop", .v6))
    let name = try #require(DomainName("shop"))
    #expect(query.question == Question(name, .aaaa))
    #expect(query.header.id == 0x1234 && query.extensions == nil)
    #expect(AddressLookup(hostname: "a..b", .v4, id: 1) == nil)
    #expect(AddressLookup(hostname: "", .v4, id: 1) == nil)
  }

  @Test("reads what the mesh answers, aliases included")
  func mesh() throws {
    let lookup = try lookup("www.google.com.ns1.svc.cluster.local")
    let answer = Answer(alias: DomainName("www.google.com"), addresses: [.v4(1), .v4(2)])
    let bytes = Response.answer(answer, to: try asked(lookup), limit: 512)
    #expect(lookup.read(bytes) == .addresses([.v4(1), .v4(2)]))
    let empty = Response.answer(Answer(addresses: []), to: try asked(lookup), limit: 512)
    #expect(lookup.read(empty) == .addresses([]))
  }

  @Test("follows a chain of aliases in any order, and takes nothing that does not belong to it")
  func chain() throws {
    let lookup = try lookup("a.b")
    let asked: [UInt8] = [0xc0, 12]
    let (first, second): ([UInt8], [UInt8]) = ([1, 0x63, 0], [1, 0x64, 0])
    let records = [
      record(second, 1, [10, 0, 0, 1]), record(first, 5, second), record(asked, 5, first),
      record([1, 0x65, 0], 1, [10, 0, 0, 9]), record(second, 28, [UInt8](repeating: 1, count: 16)),
      record(second, 1, [10, 0, 0, 8], recordClass: 3), record(second, 1, [10, 0, 0]),
    ]
    #expect(lookup.read(reply(lookup, records)) == .addresses([.v4(0x0a00_0001)]))
    #expect(lookup.read(reply(lookup, [record(asked, 5, asked)])) == .addresses([]), "a circle ends")
  }

  @Test("what is cut is to be asked again over TCP; errors and rubbish have no addresses")
  func others() throws {
    let lookup = try lookup("a.b")
    let whole = reply(lookup, [record([0xc0, 12], 1, [10, 0, 0, 1])])
    #expect(lookup.read(whole) == .addresses([.v4(0x0a00_0001)]))
    #expect(lookup.read(reply(lookup, flags: [0x83, 0x80], [])) == .truncated)
    #expect(lookup.read(reply(lookup, flags: [0x81, 0x83], [])) == .addresses([]))
    #expect(lookup.read(lookup.message) == .addresses([]), "a question is no answer")
    for count in 0..<whole.count { #expect(lookup.read(Array(whole.prefix(count))) == .addresses([])) }
  }
}
