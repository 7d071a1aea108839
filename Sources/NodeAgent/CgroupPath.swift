/// The pod and the container that a control group belongs to, by its path (enrollment.md §6).
///
/// Runtimes and drivers write these paths in many ways; all have in common that `pod` and the pod's UID stand in them
/// between punctuation, and that the container's id is what stands behind the last punctuation.
struct CgroupPath: Equatable {
  /// With `-` between its groups, as far as the path has anything there.
  let podUID: String
  let containerID: String

  /// Nil for a path of anything but a pod's container.
  init?(_ path: some StringProtocol) {
    var bytes = Array(path.utf8)
    let suffix = Array(".scope".utf8)
    if bytes.ends(with: suffix) { bytes.removeLast(suffix.count) }
    let word = Array("pod".utf8)
    var start = 0
    while start + 1 + word.count < bytes.count {
      if Self.isPunctuation(bytes[start]), bytes[(start + 1)...].starts(with: word),
        let (uid, end) = Self.uid(bytes, at: start + 1 + word.count),
        let container = Self.container(bytes, after: end)
      {
        podUID = uid
        containerID = container
        return
      }
      start += 1
    }
    return nil
  }

  /// The one pod and container that the text of `/proc/<pid>/cgroup` names; nil where it names none. Throws
  /// ``Contradiction`` where its lines name several: such a process belongs to nobody for certain.
  static func of(cgroupFile text: some StringProtocol) throws(Contradiction) -> CgroupPath? {
    var found: CgroupPath?
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { throw Contradiction() }
      guard let path = CgroupPath(fields[2]) else { continue }
      if let found, found != path { throw Contradiction() }
      found = path
    }
    return found
  }

  /// Lines that cannot all be true.
  struct Contradiction: Error {}

  /// Hexadecimal digits in groups of 8, 4, 4, 4 and 12, with one punctuation character or none between groups.
  private static func uid(_ bytes: [UInt8], at start: Int) -> (String, end: Int)? {
    var text: [UInt8] = []
    var index = start
    for (group, length) in [8, 4, 4, 4, 12].enumerated() {
      if group > 0, index < bytes.count, isPunctuation(bytes[index]) {
        text.append(UInt8(ascii: "-"))
        index += 1
      }
      guard index + length <= bytes.count else { return nil }
      for byte in bytes[index..<index + length] {
        guard isHexadecimal(byte) else { return nil }
        text.append(byte)
      }
      index += length
    }
    return (String(decoding: text, as: UTF8.self), index)
  }

  /// One punctuation character, segments that each end with exactly one, then the id to the end.
  private static func container(_ bytes: [UInt8], after end: Int) -> String? {
    guard end < bytes.count, isPunctuation(bytes[end]) else { return nil }
    let segments = bytes[(end + 1)...].split(omittingEmptySubsequences: false, whereSeparator: isPunctuation)
    guard let last = segments.last, segments.allSatisfy({ !$0.isEmpty }) else { return nil }
    return String(decoding: last, as: UTF8.self)
  }

  private static func isPunctuation(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x21...0x2f, 0x3a...0x40, 0x5b...0x60, 0x7b...0x7e: true
    default: false
    }
  }

  private static func isHexadecimal(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
      UInt8(ascii: "A")...UInt8(ascii: "F"):
      true
    default: false
    }
  }
}

extension Array where Element == UInt8 {
  fileprivate func ends(with suffix: [UInt8]) -> Bool { self.suffix(suffix.count).elementsEqual(suffix) }
}
