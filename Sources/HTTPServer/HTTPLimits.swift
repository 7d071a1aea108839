/// What bounds a server (observability.md §5).
public struct HTTPLimits: Sendable {
  /// Bytes of a request line and its header fields.
  public var headBytes = 8 << 10
  /// Header fields of a request.
  public var headerFields = 100
  /// Bytes of a request's body.
  public var bodyBytes = 64 << 10
  /// Connections at once. One more takes the place of the one that has been idle longest, else it is answered 503.
  public var connections = 256
  /// Time for a request's head, from the accept or, on a connection kept alive, from its first byte.
  public var headTime = Duration.seconds(2)
  /// Time for a request's body.
  public var bodyTime = Duration.seconds(10)
  /// Time a connection may wait for its next request.
  public var idleTime = Duration.seconds(30)
  /// Time in which a client must take at least some bytes of what waits for it.
  public var writeTime = Duration.seconds(10)

  public init() {}
}
