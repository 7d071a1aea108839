import Glibc
import Testing

@testable import Telemetry

@Suite("Log timestamps")
struct LogTimestampTests {
  @Test(
    "are RFC 3339 in UTC with six digits",
    arguments: [
      (0, "1970-01-01T00:00:00.000000Z"),
      (1, "1970-01-01T00:00:00.000001Z"),
      (-1, "1969-12-31T23:59:59.999999Z"),
      (951_782_399_999_999, "2000-02-28T23:59:59.999999Z"),
      (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
      (951_868_800_000_000, "2000-03-01T00:00:00.000000Z"),
      (1_709_251_199_000_000, "2024-02-29T23:59:59.000000Z"),
      (1_735_689_599_999_999, "2024-12-31T23:59:59.999999Z"),
      (1_787_220_672_131_415, "2026-08-20T10:11:12.131415Z"),
      (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
      (-2_208_988_800_000_000, "1900-01-01T00:00:00.000000Z"),
    ] as [(Int64, String)])
  func format(microseconds: Int64, text: String) {
    #expect(LogTimestamp(microseconds: microseconds).description == text)
  }

  @Test("agree with the C library on every day of four centuries")
  func everyDay() {
    for day in stride(from: Int64(-36_525), through: 146_097, by: 1) {
      var seconds = time_t(day * 86_400)
      var expected = tm()
      gmtime_r(&seconds, &expected)
      let date = LogTimestamp.civilDate(daysSinceEpoch: day)
      guard
        date == (Int64(expected.tm_year) + 1900, Int64(expected.tm_mon) + 1, Int64(expected.tm_mday))
      else {
        Issue.record("day \(day) became \(date)")
        return
      }
    }
  }
}
