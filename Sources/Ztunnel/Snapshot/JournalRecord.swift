import TLS

/// A record of ``MeshJournal``'s file: the time at which it was true in eight bytes, and a portion of a response. The last
/// record of a response bears a time; zero stands for those before it, which mean nothing without it. Pure.
enum JournalRecord {
  static func bytes(_ portion: [UInt8], at time: Timestamp?) -> [UInt8] {
    let seconds = UInt64(bitPattern: time?.secondsSinceEpoch ?? 0)
    return (0..<8).map { UInt8(truncatingIfNeeded: seconds >> (56 - 8 * UInt64($0))) } + portion
  }

  /// Nil for what is no record.
  static func read(_ record: [UInt8]) -> (time: Timestamp?, portion: [UInt8])? {
    guard record.count >= 8 else { return nil }
    let seconds = record.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    let time = seconds == 0 ? nil : Timestamp(secondsSinceEpoch: Int64(bitPattern: seconds))
    return (time, Array(record.dropFirst(8)))
  }
}
