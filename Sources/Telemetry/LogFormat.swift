import Glibc

/// How a log line is laid out (observability.md §1).
public enum LogFormat: String, Hashable, Sendable, CaseIterable {
  /// Tab-separated columns: time, level, scope, message, fields.
  case plain
  /// One JSON object a line.
  case json
  /// Fields for systemd's journal, which adds the time itself.
  case journal

  /// The value of `LOG_FORMAT`: exactly `json` or `journal` choose those, everything else plain.
  public init(environmentValue: String?) {
    switch environmentValue {
    case "json": self = .json
    case "journal": self = .journal
    default: self = .plain
    }
  }

  /// The format that `environment` asks for: `LOG_FORMAT`, and without it the journal where standard error is one
  /// (`JOURNAL_STREAM`, systemd.exec(5)).
  public init(environment: [String: String]) {
    guard let format = environment["LOG_FORMAT"] else {
      self = Self.isJournal(environment["JOURNAL_STREAM"], STDERR_FILENO) ? .journal : .plain
      return
    }
    self.init(environmentValue: format)
  }

  /// True when `stream`, a device and an inode number, names the open file `raw`: the variable alone may be inherited
  /// from a parent whose output was redirected since.
  static func isJournal(_ stream: String?, _ raw: CInt) -> Bool {
    var status = stat()
    guard let stream, fstat(raw, &status) == 0 else { return false }
    return stream == "\(status.st_dev):\(status.st_ino)"
  }
}
