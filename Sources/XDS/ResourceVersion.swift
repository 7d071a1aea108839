/// A resource's version, compactly: istiod's are 64-bit hashes in lower-case hexadecimal (xds.md §3.2), and there are as
/// many of them as there are workloads.
enum ResourceVersion: Hashable, Sendable {
  case hash(UInt64)
  indirect case text(String)

  init(_ text: String) {
    let digits = text.utf8
    if digits.count == 16, digits.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }),
      let hash = UInt64(text, radix: 16)
    {
      self = .hash(hash)
    } else {
      self = .text(text)
    }
  }

  /// Bytes of ``text``.
  var size: Int {
    switch self {
    case .hash: 16
    case .text(let text): text.utf8.count
    }
  }

  var text: String {
    switch self {
    case .hash(let hash):
      let digits = String(hash, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    case .text(let text): return text
    }
  }
}
