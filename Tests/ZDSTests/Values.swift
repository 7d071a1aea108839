import Linux

@testable import ZDS

/// A uid of a literal.
func uid(_ text: String) -> WorkloadUID {
  guard let uid = WorkloadUID(text) else { preconditionFailure("an empty uid in a test") }
  return uid
}

let someInfo = WorkloadInfo(name: "a", namespace: "b", serviceAccount: "c")

/// A namespace as the pure parts see it.
struct FakeNamespace: IdentifiedNamespace, Equatable {
  let inode: UInt64
  var identity: NamespaceIdentity { .init(device: 4, inode: inode) }
}

extension [UInt8] {
  /// Bytes of a literal such as `0a 03`.
  init(hex: String) {
    self = hex.split(separator: " ").compactMap { UInt8($0, radix: 16) }
  }
}

/// Random numbers that are the same in every run.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  // SplitMix64.
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
    return value ^ (value >> 31)
  }
}
