import Linux
import TLS
import TestSupport
import Vocabulary

/// A client of port 15008 that does TLS properly and then says whatever bytes it likes.
final class RawTunnel {
  private let connection: TCPConnection
  private let tls: TLSSession
  private let input = UnsafeMutableRawBufferPointer.allocate(byteCount: 5 + (1 << 16), alignment: 16)
  private let output = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
  private let plain = UnsafeMutableRawBufferPointer.allocate(byteCount: 32 << 10, alignment: 16)

  /// Connects and does the handshake.
  init(from place: some NamespaceHolder, to server: MeshPod, as certificate: WorkloadCertificate) throws {
    connection = try TCPClient(in: place).connect(to: server.address(port: 15008))
    tls = try TLSSession(
      owning: try TLSContext(role: .client, certificate: certificate).makeSSL(expecting: [server.spiffe]))
    tls.lendOutput(output)
    while true {
      let progress = try tls.handshake()
      try sendOutput()
      if case .done = progress { return }
      try receiveRecord()
    }
  }

  deinit {
    for buffer in [input, output, plain] { buffer.deallocate() }
  }

  /// Sends plaintext. Throws when the peer has closed, or takes nothing for `timeout`.
  func send(_ bytes: [UInt8], timeout: Duration = .seconds(10)) throws {
    var offset = 0
    while offset < bytes.count {
      let step = try bytes.withUnsafeBytes { try tls.write(UnsafeRawBufferPointer(rebasing: $0[offset...])) }
      if case .done(let count) = step { offset += count }
      try sendOutput(timeout)
    }
  }

  /// The next plaintext; nil when the peer has ended TLS.
  func receive() throws -> [UInt8]? {
    while true {
      switch try tls.read(into: plain) {
      case .done(let count): return Array(plain[..<count])
      case .ended: return nil
      case .needsInput, .needsOutput: try receiveRecord()
      }
    }
  }

  /// The frames that come until `isLast` says so, that one included. Throws when the peer closes before, or says nothing
  /// for ten seconds.
  func frames(until isLast: (HTTP2Frame.Received) -> Bool) throws -> [HTTP2Frame.Received] {
    var bytes: [UInt8] = []
    while let chunk = try receive() {
      bytes += chunk
      let frames = HTTP2Frame.parse(bytes)
      if let last = frames.firstIndex(where: isLast) { return Array(frames[...last]) }
    }
    throw TCPTestError.endedEarly(missing: 9)
  }

  /// The frames that come until the peer closes; throws `timedOut` when it does not within `limit`.
  func framesUntilClosed(within limit: Duration = .seconds(10)) throws -> [HTTP2Frame.Received] {
    var bytes: [UInt8] = []
    let end = ContinuousClock.now + limit
    do {
      while let chunk = try receive() {
        bytes += chunk
        guard ContinuousClock.now < end else { throw TCPTestError.timedOut("waiting for the peer to close") }
      }
    } catch TCPTestError.endedEarly {
      // An end without close_notify is one too, and so is a reset.
    } catch is SystemError {}
    return HTTP2Frame.parse(bytes)
  }

  private func receiveRecord() throws {
    let head = try connection.receive(5)
    let record = head + (try connection.receive(Int(head[3]) << 8 | Int(head[4])))
    input.copyBytes(from: record)
    tls.lendInput(UnsafeRawBufferPointer(rebasing: input[..<record.count]))
  }

  private func sendOutput(_ timeout: Duration = .seconds(10)) throws {
    let count = tls.outputFilled
    guard count > 0 else { return }
    try connection.send(Array(output[..<count]), timeout: timeout)
    tls.lendOutput(output)
  }
}

/// HTTP/2 frames by hand (RFC 9113 §4).
enum HTTP2Frame {
  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

  struct Received: Equatable {
    let type: UInt8
    let flags: UInt8
    let stream: UInt32
    let payload: [UInt8]

    static let goAway: UInt8 = 7
  }

  /// The bytes of a frame.
  static func make(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []) -> [UInt8] {
    let count = UInt32(payload.count)
    return [UInt8(count >> 16 & 0xff), UInt8(count >> 8 & 0xff), UInt8(count & 0xff), type, flags] + number(stream)
      + payload
  }

  static func settings(_ entries: [(UInt16, UInt32)] = []) -> [UInt8] {
    make(4, entries.flatMap { [UInt8($0.0 >> 8), UInt8($0.0 & 0xff)] + number($0.1) })
  }

  static let settingsAcknowledgement = make(4, flags: 1)
  static let ping = make(6, [1, 2, 3, 4, 5, 6, 7, 8])

  /// A request's fields, without compression. `ends` sets END_HEADERS.
  static func headers(_ fields: [(String, String)], stream: UInt32, ends: Bool = true) -> [UInt8] {
    make(1, flags: ends ? 4 : 0, stream: stream, block(fields))
  }

  static func continuation(_ fields: [(String, String)], stream: UInt32) -> [UInt8] {
    make(9, stream: stream, block(fields))
  }

  static func connect(_ authority: String, stream: UInt32) -> [UInt8] {
    headers([(":method", "CONNECT"), (":authority", authority)], stream: stream)
  }

  static func reset(stream: UInt32, code: UInt32 = 8) -> [UInt8] { make(3, stream: stream, number(code)) }
  static func windowUpdate(stream: UInt32, _ increment: UInt32) -> [UInt8] {
    make(8, stream: stream, number(increment))
  }
  static func data(_ bytes: [UInt8], stream: UInt32) -> [UInt8] { make(0, stream: stream, bytes) }

  /// Cuts received bytes into frames; a last incomplete one is left out.
  static func parse(_ bytes: [UInt8]) -> [Received] {
    var frames: [Received] = []
    var rest = bytes[...]
    while rest.count >= 9 {
      let head = Array(rest.prefix(9))
      let count = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
      guard rest.count >= 9 + count else { break }
      let stream = head[5...].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      frames.append(
        Received(type: head[3], flags: head[4], stream: stream, payload: Array(rest.dropFirst(9).prefix(count))))
      rest = rest.dropFirst(9 + count)
    }
    return frames
  }

  private static func number(_ value: UInt32) -> [UInt8] {
    [UInt8(value >> 24), UInt8(value >> 16 & 0xff), UInt8(value >> 8 & 0xff), UInt8(value & 0xff)]
  }

  /// Literal fields, not indexed, no Huffman coding (RFC 7541 §6.2.2).
  private static func block(_ fields: [(String, String)]) -> [UInt8] {
    fields.flatMap { [0] + text($0.0) + text($0.1) }
  }

  private static func text(_ value: String) -> [UInt8] {
    var length = value.utf8.count
    guard length >= 127 else { return [UInt8(length)] + Array(value.utf8) }
    var bytes: [UInt8] = [127]
    length -= 127
    while length >= 128 {
      bytes.append(UInt8(length & 0x7f | 0x80))
      length >>= 7
    }
    return bytes + [UInt8(length)] + Array(value.utf8)
  }
}
