import Testing
import Vocabulary

@testable import DNS

@Suite("A forwarded message")
struct PassageTests {
  @Test("is changed in its id alone, both ways")
  func unchanged() throws {
    let query = try query("Text.Example.com", RecordType(rawValue: 16), edns: (1400, 0, 0x8000))
    let passage = try #require(Passage(query.message, question: query.question, id: 0xbeef))
    #expect(passage.outgoing == [0xbe, 0xef] + query.message.dropFirst(2))
    let answer = try reply(to: query.message, id: 0xbeef) + [0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 9, 0, 2, 1, 33]
    #expect(passage.accept(answer) == [0x12, 0x34] + answer.dropFirst(2))
  }

  @Test("takes no answer to another message")
  func strays() throws {
    let query = try query("a.example.com")
    let passage = try #require(Passage(query.message, question: query.question, id: 0xbeef))
    let other = try DNSTests.query("b.example.com").message
    #expect(passage.accept(try reply(to: query.message, id: 0xbeee)) == nil, "another id")
    #expect(passage.accept(try reply(to: other, id: 0xbeef)) == nil, "another name")
    #expect(passage.accept(try reply(to: DNSTests.query("a.example.com", .aaaa).message, id: 0xbeef)) == nil, "type")
    #expect(passage.accept(passage.outgoing) == nil, "no answer at all")
    #expect(passage.accept(try reply(to: query.message, id: 0xbeef, flags: 0xa180)) == nil, "another opcode")
    #expect(passage.accept([0xbe, 0xef]) == nil, "no header")
    var empty = try reply(to: query.message, id: 0xbeef)
    empty.replaceSubrange(4..<6, with: [0, 0])
    #expect(passage.accept(empty) == nil, "success without a question")
  }

  @Test("takes the answer in whatever case, and an error that repeats no question")
  func accepted() throws {
    let query = try query("a.example.com")
    let passage = try #require(Passage(query.message, question: query.question, id: 0xbeef))
    #expect(passage.accept(try reply(to: DNSTests.query("A.EXAMPLE.com").message, id: 0xbeef)) != nil)
    #expect(passage.accept([0xbe, 0xef, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]) != nil)
  }

  @Test("of another kind takes an answer by its id and opcode")
  func other() throws {
    let update = try MessageBytes(query: "zone.example", flags: 0x2800).bytes
    let passage = try #require(Passage(update, question: nil, id: 5))
    #expect(passage.accept([0, 5, 0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 0]) == [0x12, 0x34, 0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    #expect(passage.accept([0, 5, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]) == nil)
  }

  @Test("goes to another server after these codes only", arguments: 0..<16 as Range<UInt8>)
  func another(_ code: UInt8) {
    #expect(
      Passage.isWorthAnotherServer([0, 0, 0x81, 0x80 | code, 0, 0, 0, 0, 0, 0, 0, 0]) == [2, 4, 5].contains(code))
  }

  private func reply(to message: [UInt8], id: UInt16, flags: UInt16 = 0x8180) throws -> [UInt8] {
    MessageBytes.two(id) + MessageBytes.two(flags) + message.dropFirst(4)
  }
}

@Suite("The resolvers to forward to")
struct ResolverConfigurationTests {
  @Test("are read as the C library reads them")
  func parse() throws {
    let configuration = ResolverConfiguration(
      parsing: """
        # comment
        ; another
        search a.b c.d
        nameserver 10.0.0.1
        nameserver\tfd00::1
          nameserver 10.0.0.1
        nameserver fe80::1%eth0
        nameserver
        nameserver nonsense
        nameserver 10.0.0.2 # trailing
        nameserver 10.0.0.3
        options ndots:5 timeout:2 attempts:99 rotate timeout:x
        """)
    #expect(configuration.servers == ["10.0.0.1", "fd00::1", "10.0.0.2"].compactMap { IPAddress($0) })
    #expect(configuration.timeout == 2)
    #expect(configuration.attempts == 5)
    #expect(ResolverConfiguration(parsing: "") == ResolverConfiguration())
  }

  @Test("are asked in rounds, the one that answered last first")
  func order() {
    var configuration = ResolverConfiguration()
    configuration.servers = [.v4(1), .v4(2), .v4(3)]
    var plan = ForwardPlan(configuration, preferred: .v4(2))
    var asked: [IPAddress] = []
    while let server = plan.next() { asked.append(server) }
    #expect(asked == [2, 1, 3, 2, 1, 3].map { .v4($0) })
  }

  @Test("are not asked again once they are given up")
  func givenUp() {
    var configuration = ResolverConfiguration()
    configuration.servers = [.v4(1), .v4(2)]
    var plan = ForwardPlan(configuration)
    let first = plan.next()
    let isAnotherLeft = plan.giveUp(on: .v4(1))
    let second = plan.next()
    let isAnyLeft = plan.giveUp(on: .v4(2))
    let third = plan.next()
    #expect([first, second, third] == [.v4(1), .v4(2), nil])
    #expect(isAnotherLeft)
    #expect(!isAnyLeft)
  }

  @Test(
    "are waited for ten seconds at most",
    arguments: [(1, 5, 2, 5, 10), (3, 5, 2, 5 / 3.0, 10), (2, 1, 2, 1, 4), (1, 30, 5, 10, 10), (0, 5, 2, 5, 0)]
      as [(Int, Int, Int, Double, Double)])
  func limits(_ servers: Int, _ timeout: Int, _ attempts: Int, _ tryLimit: Double, _ limit: Double) {
    var configuration = ResolverConfiguration()
    configuration.servers = (0..<UInt32(servers)).map { .v4($0) }
    (configuration.timeout, configuration.attempts) = (timeout, attempts)
    let plan = ForwardPlan(configuration)
    #expect(abs(plan.tryLimit / .seconds(1) - tryLimit) < 0.001)
    #expect(abs(plan.limit / .seconds(1) - limit) < 0.001)
  }
}
