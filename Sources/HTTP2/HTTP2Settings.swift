/// What this side tells its peer, and what it holds itself to (hbone.md §3).
public struct HTTP2Settings: Equatable, Sendable {
  /// Bytes a peer may send on one stream before the application has taken them.
  public var streamWindow: Int32
  /// Bytes a peer may send on all streams together. Four times the stream window, so that one slow stream does not
  /// starve the rest.
  public var connectionWindow: Int32
  /// Largest frame payload taken, 16384...16777215.
  public var maxFrameSize: UInt32
  /// Streams a client may have open at once; servers only.
  public var maxConcurrentStreams: UInt32
  /// Bytes of header fields taken in one message; more resets the stream.
  public var maxHeaderListSize: UInt32

  /// What servers of the mesh use.
  public static let server = HTTP2Settings(
    streamWindow: 4 << 20, connectionWindow: 16 << 20, maxFrameSize: 1 << 20, maxConcurrentStreams: 200,
    maxHeaderListSize: 65536)

  /// What clients of the mesh use.
  public static let client = HTTP2Settings(
    streamWindow: 4 << 20, connectionWindow: 16 << 20, maxFrameSize: 1 << 20, maxConcurrentStreams: 0,
    maxHeaderListSize: 16384)

  /// What clients of services beside the mesh use, whose answers may carry more header fields.
  public static let serviceClient = {
    var settings = client
    settings.maxHeaderListSize = 65536
    return settings
  }()
}
