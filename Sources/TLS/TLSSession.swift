import COpenSSL
import Vocabulary

/// One TLS connection as an engine over memory: ciphertext in, plaintext out, and back. It owns no buffers and does
/// no input or output; its owner lends buffers for each call. For one thread at a time.
public final class TLSSession {
  /// What a step of the engine came to.
  public enum Progress: Equatable, Sendable {
    /// The step is complete; for reads and writes, with this many bytes of plaintext.
    case done(Int)
    /// More ciphertext must come in first.
    case needsInput
    /// The output buffer is full: send it, then call again.
    case needsOutput
    /// The peer has ended the session properly (close_notify).
    case ended
  }

  private let ssl: OpaquePointer
  private let state: UnsafeMutablePointer<ambient_bio_state>

  /// Takes over an SSL made by ``TLSContext/makeSSL(expecting:)``. Throws ``TLSError`` when memory is short.
  public init(owning ssl: OpaquePointer) throws(TLSError) {
    state = .allocate(capacity: 1)
    state.initialize(to: ambient_bio_state())
    guard let bio = ambient_bio_new(state) else {
      state.deallocate()
      SSL_free(ssl)
      throw .contextFailed(step: "make a connection", reason: "out of memory")
    }
    SSL_set_bio(ssl, bio, bio)
    self.ssl = ssl
  }

  deinit {
    SSL_free(ssl)
    state.deallocate()
  }

  /// The peer's first parsable SPIFFE identity; nil before the handshake is complete.
  public var peerIdentity: SPIFFEIdentity? { TLSPeer.identity(of: ssl) }

  /// Whether the peer, trusted at the handshake, is on the revocation list in force now.
  public var isPeerRevoked: Bool { TLSPeer.isRevoked(ssl) }

  // MARK: Buffers

  /// Lends ciphertext that has come in. It must stay valid until ``inputLeft`` is 0 or it is lent anew.
  public func lendInput(_ bytes: UnsafeRawBufferPointer) {
    state.pointee.input = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
    state.pointee.input_length = bytes.count
  }

  /// Ciphertext not taken yet.
  public var inputLeft: Int { state.pointee.input_length }

  /// No ciphertext will follow what was lent.
  public func endInput() { state.pointee.input_ended = 1 }

  /// Lends room for ciphertext to send, of which the first `filled` bytes are taken already.
  public func lendOutput(_ room: UnsafeMutableRawBufferPointer, filled: Int = 0) {
    state.pointee.output = room.baseAddress?.assumingMemoryBound(to: UInt8.self)
    state.pointee.output_capacity = room.count
    state.pointee.output_length = filled
  }

  /// Bytes now in the output buffer.
  public var outputFilled: Int { state.pointee.output_length }

  /// Takes the lent buffers back, and frees the session's own where nothing is left in them: it is idle until the next call.
  /// A session without output buffer reports ``Progress/needsOutput``.
  public func returnBuffers() {
    SSL_free_buffers(ssl)
    lendInput(UnsafeRawBufferPointer(start: nil, count: 0))
    lendOutput(UnsafeMutableRawBufferPointer(start: nil, count: 0))
  }

  // MARK: Steps

  /// Goes on with the handshake. Throws ``TLSError``; the alert to send is then in the output buffer.
  public func handshake() throws(TLSError) -> Progress {
    OpenSSLErrors.clear()
    let result = SSL_do_handshake(ssl)
    return result == 1 ? .done(0) : try progress(result)
  }

  /// Decrypts into `room`, at most one record's worth. Throws ``TLSError``.
  public func read(into room: UnsafeMutableRawBufferPointer) throws(TLSError) -> Progress {
    OpenSSLErrors.clear()
    var count = 0
    let result = SSL_read_ex(ssl, room.baseAddress, room.count, &count)
    return result == 1 ? .done(count) : try progress(result)
  }

  /// Encrypts from `bytes`, at most one record's worth. After `.needsOutput` call again with the same bytes, which
  /// may have moved. Throws ``TLSError``.
  public func write(_ bytes: UnsafeRawBufferPointer) throws(TLSError) -> Progress {
    OpenSSLErrors.clear()
    var count = 0
    let result = SSL_write_ex(ssl, bytes.baseAddress, bytes.count, &count)
    return result == 1 ? .done(count) : try progress(result)
  }

  /// Puts close_notify into the output buffer, where there is room.
  public func close() {
    OpenSSLErrors.clear()
    _ = SSL_shutdown(ssl)
    OpenSSLErrors.clear()
  }

  private func progress(_ result: CInt) throws(TLSError) -> Progress {
    switch SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ: return .needsInput
    case SSL_ERROR_WANT_WRITE: return .needsOutput
    case SSL_ERROR_ZERO_RETURN: return .ended
    default: throw .handshake(ssl, result: result)
    }
  }
}
