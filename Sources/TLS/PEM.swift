import COpenSSL

/// One block of a PEM text (RFC 7468), decoded.
struct PEMBlock: Equatable {
  /// What stands between the dashes, such as `CERTIFICATE`.
  var label: String
  /// The decoded bytes.
  var bytes: [UInt8]

  /// A text longer than this is refused: a trust bundle of a few hundred certificates fits.
  static let maximumText = 1 << 20
  /// A text with more blocks than this is refused.
  static let maximumBlocks = 512
  /// A block longer than this, decoded, is refused.
  static let maximumBlock = 64 << 10

  /// All blocks of a text, in order; what stands outside of them is skipped, as RFC 7468 §2 has it.
  ///
  /// Throws `certificateMalformed` for a text past its caps and for a block that does not end or decode.
  static func parse(
    _ text: [UInt8], subject: String, maximumText: Int = maximumText, maximumBlock: Int = maximumBlock
  ) throws(TLSError) -> [PEMBlock] {
    guard text.count <= maximumText else {
      throw .certificateMalformed(subject, reason: "longer than \(maximumText) bytes")
    }
    let source = try MemoryBIO(text)
    ERR_clear_error()
    var blocks: [PEMBlock] = []
    while true {
      var label: UnsafeMutablePointer<CChar>?
      var header: UnsafeMutablePointer<CChar>?
      var bytes: UnsafeMutablePointer<UInt8>?
      var length = 0
      defer {
        CRYPTO_free(label, #file, 0)
        CRYPTO_free(header, #file, 0)
        CRYPTO_clear_free(bytes, max(0, length), #file, 0)
      }
      guard PEM_read_bio(source.raw, &label, &header, &bytes, &length) == 1 else {
        let error = OpenSSLErrors.take()
        if ERR_GET_REASON(error) == PEM_R_NO_START_LINE { return blocks }
        throw .certificateMalformed(subject, reason: "bad PEM: \(OpenSSLErrors.reason(error))")
      }
      guard let label, let bytes, length > 0, length <= maximumBlock, blocks.count < maximumBlocks else {
        throw .certificateMalformed(subject, reason: "too many or too large PEM blocks")
      }
      blocks.append(
        PEMBlock(
          label: String(cString: label), bytes: Array(UnsafeBufferPointer(start: bytes, count: length))))
    }
  }
}
