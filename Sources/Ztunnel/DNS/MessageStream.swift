import Glibc
import Linux

/// Messages on a TCP connection, each behind its length in two bytes (RFC 1035 §4.2.2).
final class MessageStream {
  let socket: SharedDescriptor
  private let loop: EventLoop
  private let scratch: UnsafeMutableRawBufferPointer
  /// What has come and is not yet taken: less than one message and one read.
  private var pending: [UInt8] = []

  /// Bytes read at once. The length a peer claims never makes anything be set aside for it.
  private static let largestRead = 16 << 10

  /// `scratch` is the loop's, used between two waits only.
  init(_ socket: SharedDescriptor, loop: EventLoop, scratch: UnsafeMutableRawBufferPointer) {
    self.socket = socket
    self.loop = loop
    self.scratch = scratch
  }

  /// The next message; nil when the peer has ended the connection, in the middle of one or not. Throws ``WaitError``,
  /// also when a message has begun and is not complete at `deadline`.
  func receive(until deadline: ContinuousClock.Instant) async throws(WaitError) -> [UInt8]? {
    while true {
      if let message = takeMessage() { return message }
      let room = UnsafeMutableRawBufferPointer(rebasing: scratch[..<min(scratch.count, Self.largestRead)])
      switch RawIO.read(socket.raw, room) {
      case .moved(let count): pending += room[..<count]
      case .ended: return nil
      case .wouldBlock: try await loop.readable(socket.raw, until: deadline)
      case .failed(let number): throw .system(SystemError("recv", number))
      }
      if ContinuousClock.now >= deadline { throw .deadlineExceeded }
    }
  }

  /// Sends a message of at most 65535 bytes. Throws ``WaitError``, also when the peer does not take it in time.
  func send(_ message: [UInt8], until deadline: ContinuousClock.Instant) async throws(WaitError) {
    guard message.count <= Int(UInt16.max) else { throw .system(SystemError("send", EMSGSIZE)) }
    let bytes = [UInt8(message.count >> 8), UInt8(message.count & 255)] + message
    var sent = 0
    while sent < bytes.count {
      let result = bytes.withUnsafeBytes { RawIO.write(socket.raw, UnsafeRawBufferPointer(rebasing: $0[sent...])) }
      switch result {
      case .moved(let count): sent += count
      case .wouldBlock: try await loop.writable(socket.raw, until: deadline)
      case .ended, .failed: throw .system(SystemError("send", EPIPE))
      }
    }
  }

  private func takeMessage() -> [UInt8]? {
    guard pending.count >= 2 else { return nil }
    let end = 2 + Int(pending[0]) << 8 + Int(pending[1])
    guard pending.count >= end else { return nil }
    let message = [UInt8](pending[2..<end])
    pending.removeFirst(end)
    return message
  }
}
