/// An error that a person meets in a log, a status line or an exit message.
///
/// Conforming types are closed enums (or wrap one), so that every failure has a stable code that can be
/// searched, counted and documented. Codes are `SCREAMING_SNAKE_CASE` and are never reused for another meaning.
public protocol CodedError: Error, CustomStringConvertible, Sendable {
  /// Stable, unique identifier such as `NETNS_GONE`.
  var code: String { get }
  /// One sentence: what happened, and to what.
  var summary: String { get }
  /// What the reader should check or do next, or nil where the summary says it all.
  var remedy: String? { get }
}

extension CodedError {
  public var remedy: String? { nil }

  /// `CODE: summary (remedy)`.
  public var description: String {
    remedy.map { "\(code): \(summary) (\($0))" } ?? "\(code): \(summary)"
  }
}
