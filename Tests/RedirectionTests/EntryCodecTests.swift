import Testing
import Vocabulary

@testable import Redirection

/// What libiptc gives back for an entry it was given: verdicts and chains have lost their names.
private func returned(_ entry: [UInt8], _ rule: Rule, _ family: IPAddress.Family) -> ([UInt8], targetName: [UInt8]) {
  let layout = EntryLayout.of(family)
  let offset = Int(entry.number(UInt16.self, at: layout.targetOffset) ?? 0)
  let name = entry.terminated(at: offset + 2, capacity: 29) ?? []
  var entry = entry
  if ExtensionCodec.encode(rule.target, family: family, revisions: ExtensionRevisions()) == nil {
    entry.put([UInt8](repeating: 0, count: 29), at: offset + 2)
  }
  return (entry, name)
}

private func rules(_ family: IPAddress.Family) -> [Rule] {
  SpecificationListings.Mode.all.flatMap { RuleCatalogue(settings: $0.settings, family: family).tables }
    .flatMap { $0.chains.flatMap { $0.rules.map(\.rule) } + $0.jumps.map { Rule.jump(to: $0.to) } }
}

@Suite("Entries")
struct EntryCodecTests {
  @Test("of our rules are read back as the same rules", arguments: [.v4, .v6] as [IPAddress.Family])
  func roundTrip(family: IPAddress.Family) throws {
    for rule in rules(family) {
      let (bytes, name) = returned(EntryEncoder(family: family).entry(rule), rule, family)
      #expect(try EntryDecoder(family: family).rule(bytes, targetName: name) == rule)
    }
  }

  @Test("of older target revisions are the same rules")
  func revisions() throws {
    for tracking in 0...2 as ClosedRange<UInt8> {
      let encoder = EntryEncoder(
        family: .v4, revisions: ExtensionRevisions(connmarkTarget: 1, connectionTrackingTarget: tracking))
      for rule in rules(.v4) {
        let (bytes, name) = returned(encoder.entry(rule), rule, .v4)
        #expect(try EntryDecoder(family: .v4).rule(bytes, targetName: name) == rule)
      }
    }
  }

  @Test("have the sizes the kernel expects")
  func sizes() {
    let redirect = Rule(target: .redirect(port: 1))
    #expect(EntryEncoder(family: .v4).entry(redirect).count == 112 + 56)
    #expect(EntryEncoder(family: .v6).entry(redirect).count == 168 + 72)
    #expect(EntryEncoder(family: .v4).entry(Rule(target: .connectionZone(1))).count == 112 + 104)
    #expect(EntryEncoder(family: .v4).entry(.jump(to: "X")).count == 112 + 40)
    let matches = Rule(
      matches: [.mark(MarkMatch(value: 1, mask: 1)), .tcp(PortMatch()), .udp(PortMatch())], target: .accept)
    #expect(EntryEncoder(family: .v4).entry(matches).count == 112 + 3 * 48 + 40)
  }

  @Test("that differ from ours in any one byte are another rule, or none", arguments: [.v4, .v6] as [IPAddress.Family])
  func everyByteCounts(family: IPAddress.Family) throws {
    let layout = EntryLayout.of(family)
    let decoder = EntryDecoder(family: family)
    for rule in Set(rules(family)) {
      let (bytes, name) = returned(EntryEncoder(family: family).entry(rule), rule, family)
      let target = Int(bytes.number(UInt16.self, at: layout.targetOffset) ?? 0)
      // Not compared: caches and counters, padding of the header, verdicts (libiptc reads them), the kernel's pointer,
      // padding of names behind their NUL, and interface names where the mask is zero.
      var ignored = Set(layout.inversions + 1..<layout.targetOffset).union(layout.nextOffset + 2..<layout.size)
      if ExtensionCodec.encode(rule.target, family: family, revisions: ExtensionRevisions()) == nil {
        ignored.formUnion(target + 3..<bytes.count)
      }
      if case .connectionZone = rule.target { ignored.formUnion(bytes.count - 8..<bytes.count) }
      var position = layout.size
      while position < bytes.count {
        let name = bytes.terminated(at: position + 2, capacity: 29) ?? []
        ignored.formUnion(position + 2 + name.count + 1..<position + 31)
        position += Int(bytes.number(UInt16.self, at: position) ?? 1)
      }
      for index in bytes.indices where !ignored.contains(index) {
        var changed = bytes
        changed[index] ^= 0xff
        let isMaskedName =
          (layout.input..<layout.inputMask).contains(index)
          && bytes[index + layout.inputMask - layout.input] == 0
        let read = try? decoder.rule(changed, targetName: name)
        #expect(isMaskedName ? read == rule : read != rule, "byte \(index) of \(rule.text(in: "X"))")
      }
    }
  }

  @Test("that are cut short or whose offsets lie outside are refused, never read past their end")
  func malformed() {
    let rule = Rule(transport: .tcp, matches: [.tcp(PortMatch())], target: .redirect(port: 15001))
    let whole = EntryEncoder(family: .v4).entry(rule)
    for count in 0..<whole.count {
      #expect(throws: EntryDecoder.Malformation.self) {
        try EntryDecoder(family: .v4).rule(Array(whole.prefix(count)), targetName: [])
      }
    }
    func with(_ value: UInt16, at offset: Int) -> EntryDecoder.Malformation? {
      var entry = whole
      entry.put(value, at: offset)
      do throws(EntryDecoder.Malformation) {
        _ = try EntryDecoder(family: .v4).rule(entry, targetName: [])
        return nil
      } catch { return error }
    }
    #expect(with(.max, at: 88) == .targetOffsetOutside)
    #expect(with(0, at: 88) == .targetOffsetOutside)
    #expect(with(.max, at: 90) == .wrongLength)
    #expect(with(0, at: 112) == .matchSizeOutside, "a match of size 0 must not be walked forever")
    #expect(with(.max, at: 112) == .matchSizeOutside)
  }

  @Test("made of random bytes never crash the reader")
  func random() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<20_000 {
      let family: IPAddress.Family = Bool.random() ? .v4 : .v6
      let layout = EntryLayout.of(family)
      var entry = EntryEncoder(family: family).entry(rules(.v4)[Int.random(in: 0..<8)])
      for _ in 0..<Int.random(in: 1...12) {
        let index = Int.random(in: 0..<entry.count, using: &generator)
        entry[index] = UInt8.random(in: .min ... .max, using: &generator)
      }
      if Bool.random() { entry.put(UInt16(entry.count), at: layout.nextOffset) }
      if let rule = try? EntryDecoder(family: family).rule(entry, targetName: []) {
        #expect(!rule.text(in: "X").isEmpty)
      }
    }
  }

  @Test("with foreign extensions keep them as bytes")
  func opaque() throws {
    let comment = OpaqueExtension(name: Array("comment".utf8), revision: 0, data: Array(repeating: 65, count: 256))
    let rule = Rule(
      matches: [.opaque(comment)],
      target: .opaque(OpaqueExtension(name: Array("LOG".utf8), revision: 0, data: [1, 2, 3, 4, 5, 6, 7, 8])))
    let bytes = EntryEncoder(family: .v4).entry(rule)
    #expect(try EntryDecoder(family: .v4).rule(bytes, targetName: Array("LOG".utf8)) == rule)
    #expect(rule.text(in: "X").hasSuffix(" -j LOG --revision 0 --data 0x0102030405060708"))
  }
}

@Suite("Rule text")
struct RuleTextTests {
  private static let wild = InterfaceMatch(
    name: Array("veth".utf8) + Array(repeating: 0, count: 12),
    mask: Array(repeating: 0xff, count: 4) + Array(repeating: 0, count: 12), inverted: true)

  @Test(
    "is what iptables-save prints",
    arguments: [
      (
        Rule(source: AddressMatch(address: .v4(0x0a000000), mask: .v4(0xff00_0000)), target: .drop),
        "-s 10.0.0.0/8 -j DROP"
      ),
      (
        Rule(source: AddressMatch(address: .v4(0x0a00_0001), mask: .v4(0xff00_00ff)), target: .drop),
        "-s 10.0.0.1/255.0.0.255 -j DROP"
      ),
      (
        Rule(
          destination: AddressMatch(address: .v6(0x2001_0db8 << 32, 0), mask: .v6(.max << 31, 0), inverted: true),
          target: .queue), "! -d 2001:db8::/33 -j QUEUE"
      ),
      (
        Rule(destination: AddressMatch(address: .v6(0, 1), mask: .v6(0xff00, .max)), target: .queue),
        "-d ::1/::ff00:ffff:ffff:ffff:ffff -j QUEUE"
      ),
      (Rule(output: wild, target: .returnToCaller), "! -o veth+ -j RETURN"),
      (Rule(transport: ProtocolMatch(number: 132, inverted: true), target: .fallThrough), "! -p sctp"),
      (Rule(transport: ProtocolMatch(number: 253), target: .jump("X", isGoto: true)), "-p 253 -g X"),
      (
        Rule(matches: [.tcp(PortMatch(source: PortRange(low: 1, high: 9, inverted: true)))], target: .accept),
        "-m tcp ! --sport 1:9 -j ACCEPT"
      ),
    ])
  func text(rule: Rule, expected: String) { #expect(rule.text(in: "C") == "-A C " + expected) }

  @Test("escapes what cannot be printed")
  func escapes() { #expect("\(ChainName(bytes: [0x41, 0x0a, 0xff]))" == "A\\x0a\\xff") }
}
