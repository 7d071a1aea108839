/// gRPC's framing: a flag, four bytes of length, the message.
enum MessageFraming {
  static let prefixLength = 5

  /// Appends a message with its prefix. The message must be shorter than 4 GiB.
  static func append(_ message: [UInt8], to bytes: inout [UInt8]) {
    let length = UInt32(clamping: message.count)
    bytes.append(0)
    for shift in stride(from: 24, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: length >> shift)) }
    bytes.append(contentsOf: message)
  }
}

/// Takes a stream of bytes apart into messages. Pure.
struct MessageDeframer {
  /// Largest message taken, in bytes.
  let limit: Int
  private var prefix: [UInt8] = []
  private var message: [UInt8] = []
  private var wanted: Int?

  init(limit: Int) { self.limit = limit }

  /// True in the middle of a message: the stream must not end here.
  var isIncomplete: Bool { wanted != nil || !prefix.isEmpty }

  /// The messages that these bytes complete, in order. Throws where a message is too large or compressed: memory is
  /// taken as bytes come, never because a length says so.
  mutating func receive(_ bytes: UnsafeRawBufferPointer) throws(GRPCStatus) -> [[UInt8]] {
    var complete: [[UInt8]] = []
    var rest = bytes[...]
    while true {
      if let length = wanted {
        let part = rest.prefix(length - message.count)
        message.append(contentsOf: part)
        rest = rest.dropFirst(part.count)
        guard message.count == length else { return complete }
        complete.append(message)
        message = []
        wanted = nil
      }
      let part = rest.prefix(MessageFraming.prefixLength - prefix.count)
      prefix.append(contentsOf: part)
      rest = rest.dropFirst(part.count)
      guard prefix.count == MessageFraming.prefixLength else { return complete }
      try readPrefix()
    }
  }

  private mutating func readPrefix() throws(GRPCStatus) {
    guard prefix[0] == 0 else {
      throw GRPCStatus(.internalError, "the server sent a compressed message, which was not offered")
    }
    let length = prefix.dropFirst().reduce(0) { $0 << 8 | Int($1) }
    guard length <= limit else {
      throw GRPCStatus(.resourceExhausted, "the server sent a message of \(length) bytes, more than \(limit)")
    }
    prefix = []
    wanted = length
  }
}
