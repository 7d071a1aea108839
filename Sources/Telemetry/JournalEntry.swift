import CSystemd
import Glibc

/// One entry of systemd's journal, encoded to travel through the log's queue: each field as a length of four bytes and
/// then `NAME=value`.
struct JournalEntry {
  private(set) var bytes: [UInt8] = []

  /// Fields of one entry; the journal takes 1024.
  private static let mostFields = 128

  /// The journal's form of a name: capital letters, digits and underscores, a letter first, at most 64 (journald's own
  /// rules, systemd.journal-fields(7)).
  static func name(_ key: String) -> String {
    var name = ""
    for byte in key.utf8.prefix(63) {
      switch byte {
      case 0x61...0x7a: name.unicodeScalars.append(Unicode.Scalar(byte - 32))
      case 0x41...0x5a, 0x30...0x39: name.unicodeScalars.append(Unicode.Scalar(byte))
      default: name += "_"
      }
    }
    return name.first.map { $0.isLetter } == true ? name : "F\(name)"
  }

  mutating func append(_ key: String, text: String) {
    // As long as those of other formats; what is a byte more is the limit's own mark.
    append(key, bytes: Array(text.utf8.prefix([UInt8].longestLogString)))
  }

  mutating func append(_ key: String, _ value: LogValue) {
    switch value {
    case .string(let text), .bare(let text): append(key, text: text)
    default:
      var text: [UInt8] = []
      value.append(to: &text, in: .plain)
      append(key, bytes: text)
    }
  }

  mutating func append(_ key: String, bytes value: [UInt8]) {
    let name = Array(Self.name(key).utf8)
    let length = UInt32(name.count + 1 + value.count)
    for shift in [0, 8, 16, 24] as [UInt32] { bytes.append(UInt8(truncatingIfNeeded: length >> shift)) }
    bytes += name
    bytes.append(UInt8(ascii: "="))
    bytes += value
  }

  /// The fields of an encoded entry.
  static func fields(of bytes: [UInt8]) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var index = 0
    while index + 4 <= bytes.count, ranges.count < mostFields {
      let length = (0..<4).reduce(0) { $0 | Int(bytes[index + $1]) << (8 * $1) }
      let start = index + 4
      guard length > 0, start + length <= bytes.count else { break }
      ranges.append(start..<(start + length))
      index = start + length
    }
    return ranges
  }

  /// Hands an encoded entry to the journal. False when there is none.
  static func send(_ bytes: [UInt8]) -> Bool {
    bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return true }
      let parts = fields(of: bytes).map {
        iovec(iov_base: UnsafeMutableRawPointer(mutating: base + $0.lowerBound), iov_len: $0.count)
      }
      return sd_journal_sendv(parts, CInt(parts.count)) == 0
    }
  }
}

extension LogThreshold {
  /// The number of syslog(3).
  var journalPriority: String {
    switch self {
    case .off, .error: "3"
    case .warn: "4"
    case .info: "6"
    case .debug, .trace: "7"
    }
  }
}
