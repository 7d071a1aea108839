/// One message to netfilter's part of the kernel (`nfnetlink.h`): a subsystem, a command, a family, attributes.
struct NetfilterMessage: Equatable, Sendable {
  enum Subsystem: UInt16, Sendable {
    case sets = 6
    case tables = 10
  }

  static let headerSize = 4

  var subsystem: Subsystem
  var command: UInt16
  /// `AF_*`; 0 for all.
  var family: UInt8 = 0
  var flags: UInt16 = 0
  var attributes: [UInt8] = []

  /// The kind of message, as in a netlink header.
  var kind: UInt16 { Self.kind(subsystem, command) }
  /// What follows the netlink header.
  var payload: [UInt8] { [family, 0, 0, 0] + attributes }

  static func kind(_ subsystem: Subsystem, _ command: UInt16) -> UInt16 { subsystem.rawValue << 8 | command }

  /// The messages of one transaction. Every change asks for an acknowledgement; begin and end get none.
  static func batch(_ changes: [NetfilterMessage], in subsystem: Subsystem) -> [NetlinkMessage] {
    let begin: UInt16 = 16
    let end: UInt16 = 17
    func edge(_ kind: UInt16) -> NetlinkMessage {
      NetlinkMessage(
        kind: kind, flags: NetlinkMessage.Flag.request, sequence: 0, payload: [0, 0, 0, UInt8(subsystem.rawValue)])
    }
    return [edge(begin)]
      + changes.map {
        NetlinkMessage(
          kind: $0.kind, flags: $0.flags | NetlinkMessage.Flag.request | NetlinkMessage.Flag.acknowledge, sequence: 0,
          payload: $0.payload)
      } + [edge(end)]
  }
}
