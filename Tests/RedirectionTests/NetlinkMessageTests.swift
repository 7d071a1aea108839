import Testing
import Vocabulary

@testable import Redirection

@Suite("Netlink messages")
struct NetlinkMessageTests {
  @Test("are read back as written")
  func roundTrip() {
    let first = NetlinkMessage(kind: 24, flags: 5, sequence: 7, payload: PolicyRoute(family: .v4, loopback: 1).route)
    let second = NetlinkMessage(kind: 3, flags: 2, sequence: 7, payload: [0, 0, 0, 0])
    #expect(NetlinkMessage.parse(first.bytes + second.bytes) == [first, second])
  }

  @Test("with a length outside their datagram are refused", arguments: [0, 15, 17, 1 << 31] as [UInt32])
  func lengths(length: UInt32) {
    var bytes = NetlinkMessage(kind: 24, flags: 0, sequence: 1, payload: []).bytes
    bytes.put(length, at: 0)
    #expect(NetlinkMessage.parse(bytes) == nil)
  }

  @Test("with an attribute outside them are refused", arguments: [0, 3, 9, 65535] as [UInt16])
  func attributes(length: UInt16) {
    var attribute = NetlinkMessage.attribute(1, 2)
    attribute.put(length, at: 0)
    let message = NetlinkMessage(kind: 24, flags: 0, sequence: 1, payload: Array(repeating: 0, count: 12) + attribute)
    #expect(message.attributes(after: 12) == nil)
  }

  @Test("recognise our own route and rule, and no other", arguments: [.v4, .v6] as [IPAddress.Family])
  func recognition(family: IPAddress.Family) throws {
    let ours = PolicyRoute(family: family, loopback: 1)
    func route(_ payload: [UInt8]) -> NetlinkMessage {
      NetlinkMessage(kind: NetlinkMessage.Kind.newRoute, flags: 0, sequence: 1, payload: payload)
    }
    func rule(_ payload: [UInt8]) -> NetlinkMessage {
      NetlinkMessage(kind: NetlinkMessage.Kind.newRule, flags: 0, sequence: 1, payload: payload)
    }
    #expect(try ours.place(route(ours.route)) == .init(priority: 0, isOurs: true))
    #expect(try ours.isOurs(rule(ours.rule)))

    // Another interface; type unicast.
    #expect(try ours.place(route(PolicyRoute(family: family, loopback: 2).route))?.isOurs == false)
    var unicast = ours.route
    unicast[7] = 1
    #expect(try ours.place(route(unicast))?.isOurs == false)
    // A further condition (input interface), inversion, another action.
    #expect(try !ours.isOurs(rule(ours.rule + NetlinkMessage.attribute(3, 0x6f6c))))
    for offset in [1, 3, 7, 8] {
      var other = ours.rule
      other[offset] ^= 0x02
      #expect(try !ours.isOurs(rule(other)), "byte \(offset)")
    }
    #expect(throws: RedirectionError.self) { try ours.isOurs(rule([1, 2, 3])) }
    #expect(throws: RedirectionError.self) { try ours.place(route([])) }
  }
}
