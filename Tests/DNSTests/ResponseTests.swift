import Testing
import Vocabulary

@testable import DNS

@Suite("An answer from the mesh")
struct ResponseTests {
  private let addresses: [IPAddress] = [.v4(0x0a09_0001), .v4(0x0a09_0002)]

  @Test("is these bytes")
  func vector() throws {
    let reply = Response.answer(Answer(addresses: [.v4(0x0a09_0001)]), to: try query("A.b", flags: 0x0110), limit: 512)
    #expect(
      reply == [
        0x12, 0x34, 0x85, 0x90, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0x41, 1, 0x62, 0, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0,
        30, 0, 4, 10, 9, 0, 1,
      ])
  }

  @Test("has its records owned by the name as asked, for thirty seconds")
  func records() throws {
    let reply = try Decoded(Response.answer(Answer(addresses: addresses), to: try query("Www.Google.com"), limit: 512))
    #expect(reply.addresses == addresses)
    #expect(reply.records.map(\.name.description) == ["Www.Google.com.", "Www.Google.com."])
    #expect(reply.records.allSatisfy { $0.timeToLive == 30 && $0.type == .a })
    #expect(reply.questions.map(\.name.description) == ["Www.Google.com."])
    #expect(reply.header.flags == 0x8580)
  }

  @Test("starts with a CNAME when the name is an alias, and the addresses belong to that")
  func alias() throws {
    let answer = Answer(alias: DomainName("www.google.com"), addresses: [.v6(1, 2)])
    let bytes = Response.answer(answer, to: try query("www.google.com.ns1.svc.cluster.local", .aaaa), limit: 512)
    let reply = try Decoded(bytes)
    #expect(reply.records.map(\.type) == [.cname, .aaaa])
    #expect(reply.records.map(\.name.description) == ["www.google.com.ns1.svc.cluster.local.", "www.google.com."])
    var target = MessageReader(bytes, at: try #require(reply.dataOffsets.first))
    #expect(try target.name().description == "www.google.com.")
  }

  @Test("without addresses is no error, and says for how long that holds")
  func empty() throws {
    let bytes = Response.answer(Answer(alias: DomainName("x.y"), addresses: []), to: try query("a.b"), limit: 512)
    let reply = try Decoded(bytes)
    #expect(reply.answers.isEmpty && reply.header.authorityCount == 1)
    let authority = try #require(reply.records.first)
    #expect(authority.type == .soa && authority.timeToLive == 5 && authority.name == DomainName("a.b"))
    #expect(authority.data.suffix(4) == [0, 0, 0, 5])
    var names = MessageReader(bytes, at: try #require(reply.dataOffsets.first))
    #expect(try names.name() == DomainName("a.b"))
    #expect(try names.name() == DomainName("a.b"))
    let options = try Decoded(
      Response.answer(Answer(addresses: []), to: try query("a.b", edns: (1232, 0, 0)), limit: 1232))
    #expect(options.records.map(\.type) == [.soa, .opt])
    let cramped = try Decoded(Response.answer(Answer(addresses: []), to: try query("a.b"), limit: 40))
    #expect(cramped.records.isEmpty)
    #expect(reply.header.responseCode == .noError)
    #expect(reply.header.flags & 0x0400 != 0, "authoritative")
  }

  @Test("echoes EDNS where the client spoke it")
  func edns() throws {
    let reply = try Decoded(
      Response.answer(Answer(addresses: addresses), to: try query("a.b", edns: (1232, 0, 0x8000)), limit: 1232))
    let option = try #require(reply.records.last)
    #expect((option.type, option.recordClass, option.timeToLive) == (.opt, 1232, 0x8000))
    #expect(reply.header.additionalCount == 1)
  }

  @Test("refuses a version of EDNS that is not known")
  func version() throws {
    let reply = try Decoded(
      Response.answer(Answer(addresses: addresses), to: try query("a.b", edns: (1232, 1, 0)), limit: 1232))
    let option = try #require(reply.records.last)
    #expect(reply.header.flags & 15 | UInt16(option.timeToLive >> 24) << 4 == ResponseCode.badVersion.rawValue)
    #expect(option.timeToLive >> 16 & 255 == 0, "version 0 is spoken here")
    #expect(reply.addresses.isEmpty)
  }

  @Test(
    "holds as many whole records as fit, and says when there are more",
    arguments: [
      (nil, 100, 30, true), (nil, 30, 30, false), (1232, 100, 74, true), (1232, 74, 74, false), (4096, 100, 100, false),
    ] as [(UInt16?, UInt32, Int, Bool)])
  func truncation(_ payload: UInt16?, _ count: UInt32, _ fitting: Int, _ isTruncated: Bool) throws {
    let query = try query("a.example.co", edns: payload.map { ($0, 0, 0) })
    let bytes = Response.answer(
      Answer(addresses: (0..<count).map { .v4($0) }), to: query, limit: query.datagramLimit)
    let reply = try Decoded(bytes)
    #expect(bytes.count <= query.datagramLimit)
    #expect(reply.addresses.count == fitting)
    #expect(reply.header.isTruncated == isTruncated)
  }

  @Test("over TCP holds thousands of records and stays within a message")
  func stream() throws {
    let bytes = Response.answer(
      Answer(addresses: (0..<70_000).map { .v4($0) }), to: try query("a.b"), limit: Response.streamLimit)
    #expect(bytes.count <= 65_535)
    #expect(try Decoded(bytes).addresses.count == 4094)
  }

  @Test("that fails repeats the question and EDNS")
  func failure() throws {
    let reply = try Decoded(Response.failure(.serverFailure, to: try query("A.b", edns: (1232, 0, 0))))
    #expect(reply.header.responseCode == .serverFailure)
    #expect(reply.header.flags & 0x0400 == 0, "not authoritative")
    #expect(reply.questions.map(\.name.description) == ["A.b."])
    #expect(reply.records.map(\.type) == [.opt])
  }

  @Test("that does not fit at all asks for TCP")
  func asksForStream() throws {
    let reply = try Decoded(Response.truncated(try query("A.b")))
    #expect(reply.header.isTruncated)
    #expect(reply.header.responseCode == .noError)
    #expect(reply.records.isEmpty)
  }

  @Test("repeats the question byte for byte, whatever its case, and names the owner by it (0x20)")
  func mixedCase() throws {
    let query = try query("wEB.Shop.sVC.cluster.LOCAL")
    let bytes = Response.answer(Answer(addresses: [.v4(1)]), to: query, limit: 512)
    let asked = query.message.dropFirst(MessageHeader.size)
    #expect(bytes.dropFirst(MessageHeader.size).prefix(asked.count).elementsEqual(asked))
    #expect(try Decoded(bytes).records.map(\.name.description) == ["wEB.Shop.sVC.cluster.LOCAL."])
    for reply in [Response.failure(.serverFailure, to: query), Response.truncated(query)] {
      #expect(reply.dropFirst(MessageHeader.size).elementsEqual(asked))
    }
  }
}
