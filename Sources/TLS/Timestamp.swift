import Glibc

/// An instant of civil time in whole seconds, as certificates carry it (RFC 5280 §4.1.2.5).
///
/// Certificates are valid by the wall clock, which may be stepped; nothing here reads a monotonic clock.
public struct Timestamp: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// Seconds since 1970-01-01T00:00:00Z, not counting leap seconds. Negative before that.
  public var secondsSinceEpoch: Int64

  public init(secondsSinceEpoch: Int64) {
    self.secondsSinceEpoch = secondsSinceEpoch
  }

  /// The wall clock's present second.
  public static var now: Timestamp { Timestamp(secondsSinceEpoch: Int64(time(nil))) }

  /// The instant this many seconds later (earlier if negative), held at the ends of the range.
  public func advanced(bySeconds seconds: Int64) -> Timestamp {
    let (sum, overflow) = secondsSinceEpoch.addingReportingOverflow(seconds)
    return Timestamp(secondsSinceEpoch: overflow ? (seconds < 0 ? .min : .max) : sum)
  }

  /// Seconds from `other` to this instant, negative if `other` is later, held at the ends of the range.
  public func seconds(since other: Timestamp) -> Int64 {
    let (difference, overflow) = secondsSinceEpoch.subtractingReportingOverflow(other.secondsSinceEpoch)
    return overflow ? (secondsSinceEpoch < other.secondsSinceEpoch ? .min : .max) : difference
  }

  public static func < (left: Timestamp, right: Timestamp) -> Bool {
    left.secondsSinceEpoch < right.secondsSinceEpoch
  }

  /// RFC 3339 in UTC, such as `2026-11-23T16:24:41Z`; the bare number of seconds where the year has no four digits.
  public var description: String {
    var seconds = time_t(secondsSinceEpoch)
    var parts = tm()
    guard gmtime_r(&seconds, &parts) != nil, (-1900...8099).contains(parts.tm_year) else {
      return "\(secondsSinceEpoch)s"
    }
    func padded(_ number: CInt, _ width: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
    }
    let date = "\(padded(parts.tm_year + 1900, 4))-\(padded(parts.tm_mon + 1, 2))-\(padded(parts.tm_mday, 2))"
    return "\(date)T\(padded(parts.tm_hour, 2)):\(padded(parts.tm_min, 2)):\(padded(parts.tm_sec, 2))Z"
  }
}
