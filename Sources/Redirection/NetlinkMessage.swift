import Glibc

/// One netlink message as bytes: header, family header, attributes (`netlink(7)`). A value, made and read without a
/// socket; everything read is bounds-checked.
struct NetlinkMessage: Equatable, Sendable {
  /// `NLMSG_*` and `RTM_*`. Netfilter's kinds are a subsystem and a command, see ``NetfilterMessage``.
  enum Kind {
    static let error: UInt16 = 2
    static let done: UInt16 = 3
    static let newRoute: UInt16 = 24
    static let deleteRoute: UInt16 = 25
    static let getRoute: UInt16 = 26
    static let newRule: UInt16 = 32
    static let deleteRule: UInt16 = 33
    static let getRule: UInt16 = 34
  }

  /// `NLM_F_*`.
  enum Flag {
    static let request: UInt16 = 0x01
    static let acknowledge: UInt16 = 0x04
    static let dumpInterrupted: UInt16 = 0x10
    static let replace: UInt16 = 0x100
    static let exclusive: UInt16 = 0x200
    static let create: UInt16 = 0x400
    static let dump: UInt16 = 0x300
  }

  static let headerSize = 16

  var kind: UInt16
  var flags: UInt16
  var sequence: UInt32
  /// What follows the header.
  var payload: [UInt8]

  /// The message as sent.
  var bytes: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.headerSize) + payload
    bytes.put(UInt32(bytes.count), at: 0)
    bytes.put(kind, at: 4)
    bytes.put(flags, at: 6)
    bytes.put(sequence, at: 8)
    return bytes
  }

  /// The messages of one datagram; nil when a length does not fit.
  static func parse(_ datagram: [UInt8]) -> [NetlinkMessage]? {
    var messages: [NetlinkMessage] = []
    var position = 0
    while position < datagram.count {
      guard let length = datagram.number(UInt32.self, at: position).map(Int.init), length >= headerSize,
        length <= datagram.count - position, let kind = datagram.number(UInt16.self, at: position + 4),
        let flags = datagram.number(UInt16.self, at: position + 6),
        let sequence = datagram.number(UInt32.self, at: position + 8),
        let payload = datagram.slice(position + headerSize, length - headerSize)
      else { return nil }
      messages.append(NetlinkMessage(kind: kind, flags: flags, sequence: sequence, payload: payload))
      position += (length + 3) & ~3
    }
    return messages
  }

  /// The attributes behind a family header of `size` bytes, by type; nil when a length does not fit. Of a type that comes
  /// twice the last one counts, as in the kernel.
  func attributes(after size: Int) -> [UInt16: [UInt8]]? {
    guard let rest = payload.slice(size, payload.count - size) else { return nil }
    return NetlinkAttribute.list(rest).map { NetlinkAttribute.byType($0) }
  }

  /// A 32-bit attribute, padded.
  static func attribute(_ type: UInt16, _ value: UInt32) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 8)
    bytes.put(UInt16(8), at: 0)
    bytes.put(type, at: 2)
    bytes.put(value, at: 4)
    return bytes
  }
}
