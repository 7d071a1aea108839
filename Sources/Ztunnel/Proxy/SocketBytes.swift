import Glibc
import Linux

/// Small reads and writes of a connection's beginning, before a pump has it. Called in tasks of the socket's loop.
extension EventLoop {
  /// Writes all of `bytes`. Throws ``WaitError``.
  func write(_ bytes: [UInt8], to socket: SharedDescriptor, until deadline: ContinuousClock.Instant)
    async throws(WaitError)
  {
    var sent = 0
    while sent < bytes.count {
      switch bytes.withUnsafeBytes({ RawIO.write(socket.raw, UnsafeRawBufferPointer(rebasing: $0[sent...])) }) {
      case .moved(let count): sent += count
      case .wouldBlock, .ended: try await writable(socket.raw, until: deadline)
      case .failed(let number): throw .system(SystemError("send", number))
      }
    }
  }

  /// Reads 1 to `limit` bytes, none at the end of the stream, and never more, so that what follows is left in the
  /// socket. Throws ``WaitError``.
  func read(atMost limit: Int, from socket: SharedDescriptor, until deadline: ContinuousClock.Instant)
    async throws(WaitError) -> [UInt8]
  {
    while true {
      var result = IOResult.ended
      let bytes = [UInt8](unsafeUninitializedCapacity: limit) { room, count in
        result = RawIO.read(socket.raw, UnsafeMutableRawBufferPointer(room))
        if case .moved(let moved) = result { count = moved }
      }
      switch result {
      case .moved, .ended: return bytes
      case .wouldBlock: try await readable(socket.raw, until: deadline)
      case .failed(let number): throw .system(SystemError("recv", number))
      }
    }
  }
}
