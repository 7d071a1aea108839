/// Why a workload is cut off, as a word for metrics and logs.
enum FenceReason: String, Sendable, CaseIterable {
  /// Its rules are not written yet, or could not be the last time: every new workload is fenced for that moment.
  case notWritten = "not_written"
  /// Rules that were proven are not what they were.
  case deviation
  /// Its namespace could not be looked into.
  case unreadable
}
