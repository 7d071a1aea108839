import Linux
import TLS
import Vocabulary

/// What a connection can be made of.
extension HTTP2Connection {
  /// Takes over a connected, non-blocking socket and a fresh SSL. Throws when memory is short.
  public convenience init(
    role: Role, socket: SharedDescriptor, peer: SocketAddress, local: SocketAddress, ssl: OpaquePointer,
    settings: HTTP2Settings, keepAlive: HTTP2KeepAlive = HTTP2KeepAlive(), loop: EventLoop, buffers: WorkBuffers
  ) throws(HTTP2ConnectionError) {
    try self.init(
      role: role, carrier: .socket(socket, peer: peer), peer: peer, local: local, records: Self.records(ssl),
      settings: settings, keepAlive: keepAlive, loop: loop, buffers: buffers)
  }

  /// Takes over a connected, non-blocking Unix socket, on which HTTP/2 is spoken as it is. `place` stands for its
  /// address. Throws when memory is short.
  public convenience init(
    role: Role, plaintext socket: SharedDescriptor, place: SocketAddress, settings: HTTP2Settings,
    keepAlive: HTTP2KeepAlive = HTTP2KeepAlive(), loop: EventLoop, buffers: WorkBuffers
  ) throws(HTTP2ConnectionError) {
    try self.init(
      role: role, carrier: .socket(socket, peer: place), peer: place, local: place,
      records: .plaintext(PlaintextSession()), settings: settings, keepAlive: keepAlive, loop: loop, buffers: buffers)
  }

  /// Takes over an open stream of another connection of the same loop, and a fresh SSL: a tunnel in a tunnel
  /// (hbone.md §11). `peer` and `local` are the outer connection's. It lives until it is closed, or the stream is; the
  /// stream ends with it. Throws when memory is short.
  public convenience init(
    role: Role, over stream: HTTP2Stream, peer: SocketAddress, local: SocketAddress, ssl: OpaquePointer,
    settings: HTTP2Settings, keepAlive: HTTP2KeepAlive = HTTP2KeepAlive(), loop: EventLoop, buffers: WorkBuffers
  ) throws(HTTP2ConnectionError) {
    try self.init(
      role: role, carrier: .stream(StreamCarrier(stream, loop: loop)), peer: peer, local: local,
      records: Self.records(ssl), settings: settings, keepAlive: keepAlive, loop: loop, buffers: buffers)
  }

  private static func records(_ ssl: OpaquePointer) throws(HTTP2ConnectionError) -> RecordLayer {
    do throws(TLSError) { return .tls(try TLSSession(owning: ssl)) } catch { throw .tls(error) }
  }
}
