#if DEBUG
  import Glibc
#endif

/// Moments at which a test may have the process die, so that every half-done state can be brought about at will.
///
/// With `AMBIENT_FAULTS=die-at=<point>` the process is killed when it first comes to the point of that name, from
/// whichever thread; with `die-at=<point>@<subject>` when it does so for that subject. Release builds look at nothing and
/// never die.
public enum FaultPoint {
  /// Says that a point is reached. Returns unless the process is to die there. `subject` is what it is reached with, such
  /// as a workload's name.
  @inline(__always)
  public static func reached(_ point: @autoclosure () -> String, with subject: @autoclosure () -> String = "") {
    #if DEBUG
      guard let deadly, deadly == point() || deadly == "\(point())@\(subject())" else { return }
      kill(getpid(), SIGKILL)
      while true { pause() }
    #endif
  }

  #if DEBUG
    private static let deadly: String? = {
      guard let text = getenv("AMBIENT_FAULTS").map({ String(cString: $0) }), text.hasPrefix("die-at=") else {
        return nil
      }
      return String(text.dropFirst("die-at=".count))
    }()
  #endif
}
