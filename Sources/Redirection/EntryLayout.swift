import Vocabulary

/// Where the fields of `ipt_entry` and `ip6t_entry` lie (redirection.md §9.1). The C side asserts these numbers at
/// compile time.
struct EntryLayout {
  var source, destination, sourceMask, destinationMask: Int
  var input, output, inputMask, outputMask: Int
  var transport: Int
  /// Only IPv6 has one.
  var typeOfService: Int?
  var flags, inversions: Int
  var targetOffset, nextOffset: Int
  /// How many packets the rule has seen, 8 bytes.
  var packets: Int
  /// Size of the fixed part: matches and target follow.
  var size: Int
  var addressSize: Int
  /// The flag that turns a jump into a goto.
  var gotoFlag: UInt8
  /// The flag without which IPv6 does not compare the protocol.
  var protocolFlag: UInt8

  static let v4 = EntryLayout(
    source: 0, destination: 4, sourceMask: 8, destinationMask: 12, input: 16, output: 32, inputMask: 48, outputMask: 64,
    transport: 80, typeOfService: nil, flags: 82, inversions: 83, targetOffset: 88, nextOffset: 90, packets: 96,
    size: 112,
    addressSize: 4, gotoFlag: 0x02, protocolFlag: 0)

  static let v6 = EntryLayout(
    source: 0, destination: 16, sourceMask: 32, destinationMask: 48, input: 64, output: 80, inputMask: 96,
    outputMask: 112, transport: 128, typeOfService: 130, flags: 131, inversions: 132, targetOffset: 140,
    nextOffset: 142, packets: 152, size: 168, addressSize: 16, gotoFlag: 0x04, protocolFlag: 0x01)

  static func of(_ family: IPAddress.Family) -> EntryLayout {
    switch family {
    case .v4: v4
    case .v6: v6
    }
  }

  /// Header of a match or target: size (2), name (29), revision (1).
  static let extensionHeader = 32
  static let extensionName = 2
  static let extensionNameCapacity = 29
  static let extensionRevision = 31
  /// A verdict or jump: the header and a number.
  static let standardTargetSize = 40

  /// Inversion bits, the same for both families.
  enum Inversion {
    static let input: UInt8 = 0x01
    static let output: UInt8 = 0x02
    static let source: UInt8 = 0x08
    static let destination: UInt8 = 0x10
    static let transport: UInt8 = 0x40
  }

  /// The size the kernel gives `count` bytes of extension data.
  static func aligned(_ count: Int) -> Int { (count + 7) & ~7 }
}
