import CNI
import Glibc

enum StandardInput {
  /// A runtime writes its whole configuration at once; one that hangs must not leave a process behind for ever.
  private static let limit = Duration.seconds(10)

  /// Everything up to the end. Throws ``CNIError/input(_:)``.
  static func read(limit size: Int) throws(CNIError) -> [UInt8] {
    let deadline = ContinuousClock.now + limit
    var input: [UInt8] = []
    while true {
      do throws(PollError) { try poll(STDIN_FILENO, for: POLLIN, until: deadline) } catch { throw .input(error.reason) }
      switch readSome(STDIN_FILENO) {
      case .success(let bytes):
        if bytes.isEmpty { return input }
        input += bytes
        guard input.count <= size else { throw .input("more than \(size) bytes") }
      case .failure(let error): throw .input(error.reason)
      }
    }
  }
}

/// Why waiting for a descriptor, or reading from it, failed.
struct PollError: Error {
  let reason: String

  init(_ reason: String) { self.reason = reason }
  /// For the calling thread's last error.
  init(errno number: CInt, _ call: String) { reason = "\(call): \(String(cString: strerror(number)))" }
}

/// Waits until the descriptor can be used, or has ended.
func poll(_ descriptor: CInt, for events: CInt, until deadline: ContinuousClock.Instant) throws(PollError) {
  while true {
    let (seconds, attoseconds) = ContinuousClock.now.duration(to: deadline).components
    let left = seconds * 1000 + attoseconds / 1_000_000_000_000_000
    var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
    let count = Glibc.poll(&entry, 1, CInt(clamping: max(0, left)))
    if count > 0 { return }
    if count == 0 { throw PollError("nothing came in time") }
    if errno != EINTR { throw PollError(errno: errno, "poll") }
  }
}

/// One read; empty at the end.
func readSome(_ descriptor: CInt) -> Result<[UInt8], PollError> {
  while true {
    var number: CInt = 0
    var count = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: 16 << 10) { buffer, filled in
      count = read(descriptor, buffer.baseAddress, buffer.count)
      number = errno
      filled = max(0, count)
    }
    if count >= 0 { return .success(bytes) }
    if number != EINTR { return .failure(PollError(errno: number, "read")) }
  }
}
