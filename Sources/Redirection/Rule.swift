import Vocabulary

/// One rule of a chain: what it looks at and what it does. Equal values are the same rule to the kernel.
struct Rule: Hashable, Sendable {
  var source: AddressMatch?
  var destination: AddressMatch?
  var input: InterfaceMatch?
  var output: InterfaceMatch?
  var transport: ProtocolMatch?
  var matches: [Match] = []
  var target: Target
  /// Conditions of the fixed header that this project never writes.
  var remainder = HeaderRemainder()

  /// The chain this rule continues in, if it does.
  var destinationChain: ChainName? {
    if case .jump(let chain, _) = target { chain } else { nil }
  }

  /// The unconditional jump into a chain.
  static func jump(to chain: ChainName) -> Rule { Rule(target: .jump(chain, isGoto: false)) }
}

/// `-s` or `-d`.
struct AddressMatch: Hashable, Sendable {
  var address: IPAddress
  /// Same family as `address`; need not be contiguous.
  var mask: IPAddress
  var inverted = false

  /// Exactly one address.
  static func host(_ address: IPAddress, inverted: Bool = false) -> AddressMatch {
    let mask: IPAddress = address.family == .v4 ? .v4(.max) : .v6(.max, .max)
    return AddressMatch(address: address, mask: mask, inverted: inverted)
  }
}

/// `-i` or `-o`: 16 bytes of name and of mask, as the kernel compares them.
struct InterfaceMatch: Hashable, Sendable {
  static let width = 16

  /// `width` bytes, zero where `mask` is zero.
  let name: [UInt8]
  /// `width` bytes.
  let mask: [UInt8]
  var inverted: Bool

  /// Nil unless both have `width` bytes.
  init?(name: [UInt8], mask: [UInt8], inverted: Bool) {
    guard name.count == Self.width, mask.count == Self.width else { return nil }
    self.name = zip(name, mask).map { $0 & $1 }
    self.mask = mask
    self.inverted = inverted
  }

  /// Exactly the interface of this name.
  init(_ interface: InterfaceName, inverted: Bool = false) {
    self.init(exactly: Array(interface.text.utf8), inverted: inverted)
  }

  /// The loopback interface.
  static func loopback(inverted: Bool) -> InterfaceMatch {
    InterfaceMatch(exactly: Array("lo".utf8), inverted: inverted)
  }

  /// `text` has at most 15 bytes. The NUL behind the name is compared too, or the name would be a wildcard.
  private init(exactly text: [UInt8], inverted: Bool) {
    name = (0..<Self.width).map { $0 < text.count ? text[$0] : 0 }
    mask = (0..<Self.width).map { $0 <= text.count ? 0xff : 0 }
    self.inverted = inverted
  }
}

/// `-p`.
struct ProtocolMatch: Hashable, Sendable {
  /// IANA protocol number.
  var number: UInt16
  var inverted = false

  static let tcp = ProtocolMatch(number: 6)
  static let udp = ProtocolMatch(number: 17)
}

/// Bits of the fixed header without a name of their own here. All zero in our rules.
struct HeaderRemainder: Hashable, Sendable {
  /// Flags other than `goto` and "protocol is set".
  var flags: UInt8 = 0
  /// Inversions of conditions that are not there, or that are not modelled.
  var inversions: UInt8 = 0
  /// IPv6 traffic class.
  var typeOfService: UInt8 = 0
  /// A protocol number that an IPv6 rule carries without comparing it.
  var unusedProtocol: UInt16 = 0
}

/// `-m`.
enum Match: Hashable, Sendable {
  case mark(MarkMatch)
  case connectionMark(MarkMatch)
  case tcp(PortMatch)
  case udp(PortMatch)
  /// Answers: packets of a connection, or about one, in the direction of who did not open it.
  case answer
  /// `--socket-exists`: a process of this namespace sends the packet, it is not forwarded.
  case sentByProcess
  /// `! --socket-exists`: the packet is forwarded.
  case forwarded
  /// `-m ttl --ttl-eq`, `-m hl --hl-eq`: the two families have an extension each.
  case hopLimit(UInt8, IPAddress.Family)
  /// The destination is in the set that has this index in the namespace.
  case destinationInSet(index: UInt16)
  /// An extension, revision or use of one that this project never writes.
  case opaque(OpaqueExtension)
}

/// `--mark value/mask`.
struct MarkMatch: Hashable, Sendable {
  var value: UInt32
  var mask: UInt32
  var inverted = false

  /// What ztunnel sends.
  static let fromProxy = MarkMatch(value: MeshConstants.proxyMark, mask: MeshConstants.markMask)
  /// What others send.
  static let notFromProxy = MarkMatch(value: MeshConstants.proxyMark, mask: MeshConstants.markMask, inverted: true)
  /// Of connections that ztunnel has opened to the application with its client's address.
  static let towardsApplication = MarkMatch(
    value: MeshConstants.towardsApplicationMark, mask: MeshConstants.markMask)
}

/// `--sport` and `--dport`; nil compares nothing.
struct PortMatch: Hashable, Sendable {
  var source: PortRange?
  var destination: PortRange?
  /// `--syn`: only the packet that opens a connection. TCP only.
  var opens = false
}

/// Ports `low` to `high`, both included. Not a `ClosedRange`: the kernel accepts an empty one.
struct PortRange: Hashable, Sendable {
  var low: UInt16
  var high: UInt16
  var inverted = false

  static func only(_ port: UInt16, inverted: Bool = false) -> PortRange {
    PortRange(low: port, high: port, inverted: inverted)
  }
}

/// `-j`, `-g`.
enum Target: Hashable, Sendable {
  case accept
  case drop
  case queue
  case returnToCaller
  /// No target: the rule only counts.
  case fallThrough
  case jump(ChainName, isGoto: Bool)
  /// `CONNMARK --set-xmark value/mask`.
  case setConnectionMark(value: UInt32, mask: UInt32)
  /// `CONNMARK --restore-mark`.
  case restoreMark(packetMask: UInt32, connectionMask: UInt32)
  /// `REDIRECT --to-ports`.
  case redirect(port: UInt16)
  /// `CT --zone`.
  case connectionZone(UInt16)
  /// `SNAT --to-source`, an address of the rule's family.
  case rewriteSource(IPAddress)
  /// `TTL --ttl-set`, `HL --hl-set`. In `mangle` only.
  case setHopLimit(UInt8)
  /// An extension, revision or use of one that this project never writes.
  case opaque(OpaqueExtension)
}

/// Something foreign, kept as the bytes it came in.
struct OpaqueExtension: Hashable, Sendable {
  var name: [UInt8]
  var revision: UInt8
  var data: [UInt8]
}
