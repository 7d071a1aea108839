/// Scratch memory of one loop, lent to whichever connection is being worked on. An idle connection owns none of it.
public final class WorkBuffers {
  /// Ciphertext received by one system call.
  let cipherIn: UnsafeMutableRawBufferPointer
  /// What was decrypted from it.
  let plainIn: UnsafeMutableRawBufferPointer
  /// Frames to send.
  let plainOut: UnsafeMutableRawBufferPointer
  /// Those encrypted: room for all of `plainOut`, its record overhead and a handshake flight.
  let cipherOut: UnsafeMutableRawBufferPointer

  public init() {
    cipherIn = .allocate(byteCount: 256 << 10, alignment: 64)
    plainIn = .allocate(byteCount: 256 << 10, alignment: 64)
    plainOut = .allocate(byteCount: 160 << 10, alignment: 64)
    cipherOut = .allocate(byteCount: 192 << 10, alignment: 64)
  }

  deinit {
    for buffer in [cipherIn, plainIn, plainOut, cipherOut] { buffer.deallocate() }
  }
}
