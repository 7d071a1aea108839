/// Bytes that a socket did not take yet. Empty, it holds no memory.
struct PendingBytes {
  private var bytes: [UInt8] = []
  private var start = 0

  var count: Int { bytes.count - start }
  var isEmpty: Bool { start == bytes.count }

  mutating func append(_ chunk: UnsafeRawBufferPointer) {
    // What was sent is given back before more is taken: a queue that is never quite empty must not grow for ever.
    if start > 1 << 16, start > bytes.count / 2 {
      bytes.removeFirst(start)
      start = 0
    }
    bytes.append(contentsOf: chunk)
  }

  mutating func removeFirst(_ count: Int) {
    start += count
    if start == bytes.count {
      bytes = []
      start = 0
    }
  }

  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    bytes.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[start...])) }
  }
}
