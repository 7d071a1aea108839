/// How a connection finds out that its peer is gone (hbone.md §3.1).
public struct HTTP2KeepAlive: Equatable, Sendable {
  /// Silence after which a PING is sent. Data that comes in is as good as an answer and puts it off.
  public var interval: Duration
  /// Time the answer may take.
  public var deadline: Duration
  /// Time the peer's first SETTINGS may take after the TLS handshake.
  public var settingsDeadline: Duration

  public init(
    interval: Duration = .seconds(10), deadline: Duration = .seconds(20), settingsDeadline: Duration = .seconds(10)
  ) {
    self.interval = interval
    self.deadline = deadline
    self.settingsDeadline = settingsDeadline
  }
}
