import COpenSSL

/// An OpenSSL byte source or sink in memory, freed with its scope.
struct MemoryBIO: ~Copyable {
  let raw: OpaquePointer

  /// A source of a copy of these bytes; without any, a sink.
  init(_ bytes: [UInt8] = []) throws(TLSError) {
    guard let raw = BIO_new(BIO_s_mem()) else {
      throw .contextFailed(step: "allocate a buffer", reason: OpenSSLErrors.takeReason())
    }
    guard bytes.isEmpty || BIO_write(raw, bytes, CInt(clamping: bytes.count)) == bytes.count else {
      BIO_free(raw)
      throw .contextFailed(step: "fill a buffer", reason: OpenSSLErrors.takeReason())
    }
    self.raw = raw
  }

  deinit { BIO_free(raw) }

  /// Everything that was written and not read yet.
  borrowing func contents() -> [UInt8] {
    let pending = BIO_ctrl_pending(raw)
    return [UInt8](unsafeUninitializedCapacity: pending) { buffer, count in
      count = max(0, Int(BIO_read(raw, buffer.baseAddress, CInt(clamping: pending))))
    }
  }
}
