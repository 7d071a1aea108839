/// Sends a body piece by piece. Belongs to the server's loop; used by one producer.
///
/// Small pieces are gathered. A write suspends while the client does not take what was written before, so that never
/// more than a little of a large body is in memory.
public final class HTTPBodyWriter {
  private let isChunked: Bool
  private let send: ([UInt8]) async throws(HTTPStreamEnded) -> Void
  private var gathered: [UInt8] = []

  private static let pieceSize = 32 << 10

  init(isChunked: Bool, send: @escaping ([UInt8]) async throws(HTTPStreamEnded) -> Void) {
    self.isChunked = isChunked
    self.send = send
  }

  /// Takes bytes, and sends what has been gathered when it is enough. Throws ``HTTPStreamEnded``.
  public func write(_ bytes: some Sequence<UInt8>) async throws(HTTPStreamEnded) {
    gathered.append(contentsOf: bytes)
    if gathered.count >= Self.pieceSize { try await flush() }
  }

  /// Sends what has been gathered. Throws ``HTTPStreamEnded``.
  public func flush() async throws(HTTPStreamEnded) {
    guard !gathered.isEmpty else { return }
    var bytes: [UInt8]
    if isChunked {
      bytes = Array("\(String(gathered.count, radix: 16))\r\n".utf8)
      bytes += gathered
      bytes += [13, 10]
    } else {
      bytes = gathered
    }
    gathered.removeAll(keepingCapacity: true)
    try await send(bytes)
    // Others on the loop have their turn, also when the client takes everything at once.
    await Task.yield()
  }

  func finish() async throws(HTTPStreamEnded) {
    try await flush()
    if isChunked { try await send(Array("0\r\n\r\n".utf8)) }
  }
}
