import Glibc

/// Time since the machine's boot, suspended time included: the same for all processes of a machine.
public enum BootClock {
  /// Whole milliseconds.
  public static var milliseconds: UInt64 {
    var time = timespec()
    guard clock_gettime(CLOCK_BOOTTIME, &time) == 0 else { return 0 }
    return UInt64(clamping: time.tv_sec) * 1000 + UInt64(clamping: time.tv_nsec) / 1_000_000
  }

  /// What it showed so long ago.
  public static func milliseconds(ago age: Duration) -> UInt64 {
    let (now, age) = (milliseconds, UInt64(clamping: Int64(age / .milliseconds(1))))
    return now - min(now, age)
  }
}
