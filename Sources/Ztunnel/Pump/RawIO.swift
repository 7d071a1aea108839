import CLinux
import Glibc

/// What one non-blocking read or write came to.
enum IOResult: Equatable {
  case moved(Int)
  /// End of file; reads only.
  case ended
  case wouldBlock
  /// The kernel's error number.
  case failed(CInt)
}

/// Non-blocking reads and writes, with the meaning of their results decided once.
enum RawIO {
  static func read(_ raw: CInt, _ room: UnsafeMutableRawBufferPointer) -> IOResult {
    result(ofRead: true) { recv(raw, room.baseAddress, room.count, 0) }
  }

  static func write(_ raw: CInt, _ bytes: UnsafeRawBufferPointer) -> IOResult {
    result(ofRead: false) { send(raw, bytes.baseAddress, bytes.count, CInt(MSG_NOSIGNAL)) }
  }

  /// Several pieces at once. At most 1024 (IOV_MAX). With `endFollows` the kernel waits with a last segment that is not
  /// full, so that it can carry the end; only a `shutdown` or more bytes may follow.
  static func write(_ raw: CInt, _ pieces: inout [iovec], endFollows: Bool = false) -> IOResult {
    let flags = CInt(MSG_NOSIGNAL) | (endFollows ? CInt(MSG_MORE) : 0)
    return write(raw, &pieces, flags)
  }

  private static func write(_ raw: CInt, _ pieces: inout [iovec], _ flags: CInt) -> IOResult {
    pieces.withUnsafeMutableBufferPointer { pieces in
      var message = msghdr()
      message.msg_iov = pieces.baseAddress
      message.msg_iovlen = pieces.count
      return result(ofRead: false) { sendmsg(raw, &message, flags) }
    }
  }

  /// Throws away what a TCP socket has received up to now, within bounds.
  static func discardInput(_ raw: CInt) {
    for _ in 0..<16 {
      guard recv(raw, nil, 1 << 20, CInt(MSG_TRUNC) | CInt(MSG_DONTWAIT)) > 0 else { return }
    }
  }

  static func splice(from: CInt, to: CInt, _ count: Int, endMeansEnd: Bool) -> IOResult {
    result(ofRead: endMeansEnd) { ambient_splice(from, to, count) }
  }

  private static func result(ofRead: Bool, _ call: () -> Int) -> IOResult {
    while true {
      let count = call()
      if count > 0 { return .moved(count) }
      if count == 0 { return ofRead ? .ended : .moved(0) }
      switch errno {
      case EINTR: continue
      case EAGAIN: return .wouldBlock
      default: return .failed(errno)
      }
    }
  }
}
