/// Takes a chunked body apart (RFC 9112 §7.1). Extensions and trailers are read and forgotten.
struct ChunkedBody {
  private enum State {
    case size
    case data(Int)
    case dataEnd
    case trailer
    case over
  }

  private var state = State.size
  private var framing = 0
  private(set) var bytes: [UInt8] = []
  private let limit: Int

  /// Bytes that a line of framing, and all trailers together, may take.
  private static let mostFraming = 1024

  /// `limit` bounds the body.
  init(limit: Int) { self.limit = limit }

  /// Takes what it can from the beginning of `buffer`. True when the body is complete. Throws ``HTTPRequestError``.
  mutating func receive(_ buffer: inout [UInt8]) throws(HTTPRequestError) -> Bool {
    var rest = buffer[...]
    defer { buffer = Array(rest) }
    while true {
      switch state {
      case .size:
        guard let line = try Self.line(&rest) else { return false }
        let digits = line.prefix { $0 != UInt8(ascii: ";") && $0 != 0x20 && $0 != 0x09 }
        guard !digits.isEmpty, digits.count <= 8, let size = Int(String(decoding: digits, as: UTF8.self), radix: 16),
          size >= 0, digits.first != UInt8(ascii: "+"), digits.first != UInt8(ascii: "-")
        else { throw .malformed("a chunk has no size") }
        guard bytes.count + size <= limit else { throw .bodyTooLarge }
        state = size == 0 ? .trailer : .data(size)
      case .data(let left):
        let part = rest.prefix(left)
        bytes.append(contentsOf: part)
        rest = rest.dropFirst(part.count)
        guard part.count == left else {
          state = .data(left - part.count)
          return false
        }
        state = .dataEnd
      case .dataEnd:
        guard let line = try Self.line(&rest) else { return false }
        guard line.isEmpty else { throw .malformed("a chunk is longer than its size") }
        state = .size
      case .trailer:
        guard let line = try Self.line(&rest) else { return false }
        framing += line.count
        guard framing <= Self.mostFraming else { throw .headTooLarge }
        if line.isEmpty { state = .over }
      case .over: return true
      }
    }
  }

  private static func line(_ rest: inout ArraySlice<UInt8>) throws(HTTPRequestError) -> ArraySlice<UInt8>? {
    guard let end = rest.firstIndex(of: 10) else {
      guard rest.count <= mostFraming else { throw .malformed("a line of the body's framing is too long") }
      return nil
    }
    guard end > rest.startIndex, rest[end - 1] == 13, end - rest.startIndex <= mostFraming else {
      throw .malformed("a line of the body's framing does not end in CRLF")
    }
    defer { rest = rest[(end + 1)...] }
    return rest[..<(end - 1)]
  }
}
