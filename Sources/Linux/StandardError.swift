import Glibc

/// The stream for what a person at a terminal must read when there is no log yet.
public enum StandardError {
  /// Writes a line. Nothing can be done when that fails.
  public static func print(_ line: String) {
    let bytes = Array("\(line)\n".utf8)
    _ = write(STDERR_FILENO, bytes, bytes.count)
  }
}
