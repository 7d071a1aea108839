import Glibc
import Linux
import Vocabulary

/// A set of addresses in the kernel (`ipset`, type `hash:ip`), each with the workload it belongs to as its comment
/// (redirection.md §8.1, §9.2). Messages only; ``AddressSets`` sends them.
struct AddressSet: Equatable, Sendable {
  let family: IPAddress.Family

  /// `istio-inpod-probes-v4`, `istio-inpod-probes-v6`.
  var name: String { "istio-inpod-probes-v\(family == .v4 ? 4 : 6)" }

  /// An address and whose it is.
  struct Member: Hashable, Sendable {
    var address: IPAddress
    /// Nil for an element without a comment, which nobody of the mesh made.
    var owner: String?
  }

  /// The longest comment the kernel takes.
  static let maximumOwner = 255

  private enum Command {
    static let create: UInt16 = 2
    static let destroy: UInt16 = 3
    static let list: UInt16 = 7
    static let add: UInt16 = 9
    static let remove: UInt16 = 10
    static let type: UInt16 = 13
    static let index: UInt16 = 14
  }

  private enum Attribute {
    static let version: UInt16 = 1
    static let name: UInt16 = 2
    static let type: UInt16 = 3
    static let revision: UInt16 = 4
    static let family: UInt16 = 5
    static let data: UInt16 = 7
    static let elements: UInt16 = 8
    static let line: UInt16 = 9
    static let index: UInt16 = 11
    // Inside of data.
    static let address: UInt16 = 1
    static let flags: UInt16 = 8
    static let comment: UInt16 = 26
  }

  private static let type = Array("hash:ip".utf8)
  private static let withComment: UInt32 = 0x10

  private func message(
    _ command: UInt16, flags: UInt16 = 0, version: UInt8 = 6, _ attributes: [UInt8]
  ) -> NetfilterMessage {
    NetfilterMessage(
      subsystem: .sets, command: command, family: UInt8(systemFamily(family)), flags: flags,
      attributes: NetlinkAttribute.bytes(Attribute.version, [version]) + attributes)
  }

  private var named: [UInt8] { NetlinkAttribute.text(Attribute.name, Array(name.utf8)) }

  // MARK: Requests

  /// Asks which revisions of the type the kernel has.
  var revisionQuery: NetfilterMessage {
    message(
      Command.type,
      NetlinkAttribute.text(Attribute.type, Self.type)
        + NetlinkAttribute.bytes(Attribute.family, [UInt8(systemFamily(family))]))
  }

  /// Makes the set; not an error when it is there and of the same kind.
  func creation(revision: UInt8) -> NetfilterMessage {
    message(
      Command.create, flags: NetlinkMessage.Flag.create,
      named + NetlinkAttribute.text(Attribute.type, Self.type)
        + NetlinkAttribute.bytes(Attribute.revision, [revision])
        + NetlinkAttribute.bytes(Attribute.family, [UInt8(systemFamily(family))])
        + NetlinkAttribute.nest(
          Attribute.data, NetlinkAttribute.networkOrder(Attribute.flags, Self.network(Self.withComment))))
  }

  /// Says so when there was none.
  var destruction: NetfilterMessage { message(Command.destroy, flags: NetlinkMessage.Flag.exclusive, named) }
  var listing: NetfilterMessage { message(Command.list, named) }
  /// Only version 7 of the protocol knows it.
  var indexQuery: NetfilterMessage { message(Command.index, version: 7, named) }

  /// Adds a member; one that is there gets the new comment.
  func addition(_ address: IPAddress, owner: String) -> NetfilterMessage {
    message(
      Command.add, flags: NetlinkMessage.Flag.create,
      named
        + NetlinkAttribute.nest(
          Attribute.data,
          Self.attribute(address) + NetlinkAttribute.text(Attribute.comment, Array(owner.utf8)) + Self.firstLine))
  }

  func removal(_ address: IPAddress) -> NetfilterMessage {
    message(Command.remove, named + NetlinkAttribute.nest(Attribute.data, Self.attribute(address) + Self.firstLine))
  }

  // No protocol number: some kernels reject the whole request for it (redirection.md §9.2).
  private static func attribute(_ address: IPAddress) -> [UInt8] {
    NetlinkAttribute.nest(
      Attribute.address, NetlinkAttribute.networkOrder(address.family == .v4 ? 1 : 2, address.bytes))
  }

  private static let firstLine = NetlinkAttribute.networkOrder(Attribute.line, network(0))

  private static func network(_ number: UInt32) -> [UInt8] { withUnsafeBytes(of: number.bigEndian) { Array($0) } }

  // MARK: Answers

  private static func malformed(_ what: String) -> RedirectionError { .netlinkMalformed(reason: "\(what) of a set") }

  /// The newest revision in an answer to ``revisionQuery``.
  static func revision(_ answer: NetlinkMessage) throws(RedirectionError) -> UInt8 {
    guard let attributes = answer.attributes(after: NetfilterMessage.headerSize),
      let revision = attributes[Attribute.revision]?.first
    else { throw malformed("the revision") }
    return revision
  }

  /// The number in an answer to ``indexQuery``.
  static func index(_ answer: NetlinkMessage) throws(RedirectionError) -> UInt16 {
    guard let attributes = answer.attributes(after: NetfilterMessage.headerSize),
      let index = attributes[Attribute.index]?.number(UInt16.self, at: 0)
    else { throw malformed("the index") }
    return UInt16(bigEndian: index)
  }

  /// The members in one message of an answer to ``listing``.
  func members(_ answer: NetlinkMessage) throws(RedirectionError) -> [Member] {
    guard let attributes = answer.attributes(after: NetfilterMessage.headerSize) else {
      throw Self.malformed("the list")
    }
    if let type = attributes[Attribute.type], NetlinkAttribute.text(type) != Self.type {
      throw .setOfOtherKind(name: name)
    }
    guard let elements = attributes[Attribute.elements] else { return [] }
    guard let list = NetlinkAttribute.list(elements) else { throw Self.malformed("the elements") }
    var members: [Member] = []
    for element in list where element.type == Attribute.data {
      guard let parts = NetlinkAttribute.byType(element.value),
        let inner = parts[Attribute.address].flatMap({ NetlinkAttribute.byType($0) }),
        let address = inner[family == .v4 ? 1 : 2].flatMap({ IPAddress(bytes: $0) }), address.family == family
      else { throw Self.malformed("an element") }
      let owner = parts[Attribute.comment].map { String(decoding: NetlinkAttribute.text($0), as: UTF8.self) }
      members.append(Member(address: address, owner: owner))
    }
    return members
  }
}
