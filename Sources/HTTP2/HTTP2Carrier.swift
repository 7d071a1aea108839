import Glibc
import Linux
import Vocabulary

/// What carries a connection's ciphertext: a socket, or a stream of another connection (hbone.md §11).
enum HTTP2Carrier {
  /// `peer` names it in errors.
  case socket(SharedDescriptor, peer: SocketAddress)
  case stream(StreamCarrier)

  enum Read {
    case bytes(Int)
    case ended
    case wouldBlock
    case failed(HTTP2ConnectionError)
  }

  enum Write {
    /// Bytes taken; 0 when there is no room now.
    case taken(Int)
    /// Nothing can be sent any more. What the peer sent before explains more than the failure does.
    case broken
    case failed(HTTP2ConnectionError)
  }

  func read(into room: UnsafeMutableRawBufferPointer) -> Read {
    switch self {
    case .stream(let carrier): return carrier.read(into: room)
    case .socket(let socket, let peer):
      while true {
        let count = recv(socket.raw, room.baseAddress, room.count, 0)
        if count > 0 { return .bytes(count) }
        if count == 0 { return .ended }
        if errno == EAGAIN { return .wouldBlock }
        if errno != EINTR { return .failed(.io(SystemError("recv", errno, subject: "\(peer)"))) }
      }
    }
  }

  func write(_ bytes: UnsafeRawBufferPointer) -> Write {
    switch self {
    case .stream(let carrier): return carrier.write(bytes)
    case .socket(let socket, let peer):
      while true {
        let sent = Glibc.send(socket.raw, bytes.baseAddress, bytes.count, CInt(MSG_NOSIGNAL))
        if sent >= 0 { return .taken(sent) }
        if errno == EAGAIN { return .taken(0) }
        if errno == EPIPE || errno == ECONNRESET { return .broken }
        if errno != EINTR { return .failed(.io(SystemError("send", errno, subject: "\(peer)"))) }
      }
    }
  }

  /// The peer sees the end now, as far as it can be told.
  func close() {
    switch self {
    // The descriptor itself is closed with the last reference.
    case .socket(let socket, _): _ = shutdown(socket.raw, CInt(SHUT_RDWR))
    case .stream(let carrier): carrier.close()
    }
  }
}
