import Testing

@testable import DNS

@Suite("A message from a client")
struct IntakeTests {
  @Test("is a query with its name, type and class")
  func query() throws {
    let query = try DNSTests.query("WWW.Example.com", .aaaa, recordClass: 3)
    #expect(query.header.id == 0x1234)
    #expect(query.question == Question(try #require(DomainName("www.example.com")), .aaaa, recordClass: 3))
    #expect(query.question.name.description == "WWW.Example.com.", "the case is kept")
    #expect(query.extensions == nil)
    #expect(query.datagramLimit == 512)
  }

  @Test(
    "says with EDNS how much it takes, never less than 512 bytes",
    arguments: [(4096, 0, 0x8000, 4096, true), (100, 1, 0, 512, false), (65535, 0, 0x7fff, 65535, false)]
      as [(UInt16, UInt8, UInt16, Int, Bool)])
  func edns(_ payload: UInt16, _ version: UInt8, _ flags: UInt16, _ limit: Int, _ signatures: Bool) throws {
    let query = try DNSTests.query("a.b", edns: (payload, version, flags))
    #expect(query.datagramLimit == limit)
    #expect(query.extensions?.version == version)
    #expect(query.extensions?.wantsSignatures == signatures)
  }

  @Test("is ignored when it is too short or an answer")
  func ignored() throws {
    let bytes = try MessageBytes(query: "a.b").bytes
    #expect(Intake([]) == .ignored)
    #expect(Intake([UInt8](bytes.prefix(11))) == .ignored)
    #expect(Intake(try MessageBytes(query: "a.b", flags: 0x8100).bytes) == .ignored)
  }

  @Test("is forwarded when it is of another kind", arguments: [1, 2, 4, 5, 6, 15] as [UInt16])
  func opcode(_ opcode: UInt16) throws {
    let bytes = try MessageBytes(query: "a.b", flags: opcode << 11).bytes
    #expect(Intake(bytes) == .other(bytes))
  }

  @Test("fails when it asks nothing or more than one thing", arguments: [0, 2, 65535] as [UInt16])
  func questionCount(_ count: UInt16) throws {
    var bytes = try MessageBytes(query: "a.b").bytes
    bytes.replaceSubrange(4..<6, with: MessageBytes.two(count))
    #expect(Intake(bytes) == .rejected([0x12, 0x34, 0x81, 0x82, 0, 0, 0, 0, 0, 0, 0, 0]))
  }

  @Test("is a format error when it cannot be read")
  func malformed() throws {
    let good = try MessageBytes(query: "a.b", edns: (1232, 0, 0)).bytes
    let formatError = Intake.rejected([0x12, 0x34, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0])
    for length in 12..<good.count { #expect(Intake([UInt8](good.prefix(length))) == formatError, "\(length) bytes") }
    var pointer = good
    pointer.replaceSubrange(12..<14, with: [0xc0, 12])
    #expect(Intake(pointer) == formatError)
    var twoOptions = good + good.suffix(11)
    twoOptions[11] = 2
    #expect(Intake(twoOptions) == formatError)
    var manyRecords = good
    manyRecords.replaceSubrange(6..<12, with: [UInt8](repeating: 0xff, count: 6))
    #expect(Intake(manyRecords) == formatError)
  }

  @Test("never breaks the decoder, whatever its bytes", arguments: 0..<16 as Range<UInt64>)
  func fuzz(_ seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let seeds = [
      try MessageBytes(query: "productpage.ns1.svc.cluster.local").bytes,
      try MessageBytes(query: "a.b.c.d.e", .aaaa, edns: (1232, 0, 0x8000)).bytes,
      Response.answer(
        Answer(alias: DomainName("x.y"), addresses: [.v4(1), .v4(2)]),
        to: try DNSTests.query("q.w.e", edns: (4096, 0, 0)),
        limit: 512),
    ]
    for _ in 0..<4000 {
      var bytes = seeds.randomElement(using: &random) ?? []
      for _ in 0..<Int.random(in: 1...8, using: &random) { Self.mutate(&bytes, using: &random) }
      if case .query(let query) = Intake(bytes) {
        #expect(query.question.name.wire.count <= DomainName.longest)
        let answer = Answer(alias: query.question.name, addresses: (0..<100).map { .v4($0) })
        let reply = Response.answer(answer, to: query, limit: query.datagramLimit)
        #expect(reply.count <= query.datagramLimit)
        _ = try Decoded(reply)
        _ = try Decoded(Response.failure(.serverFailure, to: query))
      }
      if let passage = Passage(bytes, question: nil, id: 7) { _ = passage.accept(bytes) }
      _ = try? Decoded(bytes)
    }
  }

  private static func mutate(_ bytes: inout [UInt8], using random: inout SeededGenerator) {
    let position = bytes.isEmpty ? 0 : Int.random(in: 0..<bytes.count, using: &random)
    switch Int.random(in: 0..<5, using: &random) {
    case 0 where !bytes.isEmpty: bytes[position] = UInt8.random(in: .min ... .max, using: &random)
    case 1 where !bytes.isEmpty: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case 2: bytes.insert([0xc0, 0, 63, 255, 12].randomElement(using: &random) ?? 0, at: position)
    case 3: bytes.removeLast(min(bytes.count, Int.random(in: 0..<6, using: &random)))
    default: bytes += bytes.suffix(Int.random(in: 0..<20, using: &random))
    }
  }
}
