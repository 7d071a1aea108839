import TLS
import Vocabulary

/// What stands between a carrier's bytes and HTTP/2's: TLS, or nothing on a socket of this machine.
enum RecordLayer {
  case tls(TLSSession)
  case plaintext(PlaintextSession)

  var peerIdentity: SPIFFEIdentity? {
    switch self {
    case .tls(let session): session.peerIdentity
    case .plaintext: nil
    }
  }

  var isPeerRevoked: Bool {
    switch self {
    case .tls(let session): session.isPeerRevoked
    case .plaintext: false
    }
  }

  func lendInput(_ bytes: UnsafeRawBufferPointer) {
    switch self {
    case .tls(let session): session.lendInput(bytes)
    case .plaintext(let session): session.input = bytes
    }
  }

  func lendOutput(_ room: UnsafeMutableRawBufferPointer) {
    switch self {
    case .tls(let session): session.lendOutput(room)
    case .plaintext(let session): (session.output, session.outputFilled) = (room, 0)
    }
  }

  func returnBuffers() {
    switch self {
    case .tls(let session): session.returnBuffers()
    case .plaintext(let session): session.returnBuffers()
    }
  }

  var outputFilled: Int {
    switch self {
    case .tls(let session): session.outputFilled
    case .plaintext(let session): session.outputFilled
    }
  }

  func endInput() {
    if case .tls(let session) = self { session.endInput() }
  }

  func handshake() throws(TLSError) -> TLSSession.Progress {
    switch self {
    case .tls(let session): try session.handshake()
    case .plaintext: .done(0)
    }
  }

  func read(into room: UnsafeMutableRawBufferPointer) throws(TLSError) -> TLSSession.Progress {
    switch self {
    case .tls(let session): try session.read(into: room)
    case .plaintext(let session): session.read(into: room)
    }
  }

  func write(_ bytes: UnsafeRawBufferPointer) throws(TLSError) -> TLSSession.Progress {
    switch self {
    case .tls(let session): try session.write(bytes)
    case .plaintext(let session): session.write(bytes)
    }
  }

  func close() {
    if case .tls(let session) = self { session.close() }
  }
}

/// Bytes as they are, behind the same lent buffers as TLS, so that a connection has one way of working.
final class PlaintextSession {
  fileprivate var input = UnsafeRawBufferPointer(start: nil, count: 0)
  fileprivate var output = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  fileprivate var outputFilled = 0

  fileprivate func returnBuffers() {
    input = UnsafeRawBufferPointer(start: nil, count: 0)
    (output, outputFilled) = (UnsafeMutableRawBufferPointer(start: nil, count: 0), 0)
  }

  fileprivate func read(into room: UnsafeMutableRawBufferPointer) -> TLSSession.Progress {
    let count = min(room.count, input.count)
    guard count > 0 else { return .needsInput }
    room.copyMemory(from: UnsafeRawBufferPointer(rebasing: input[..<count]))
    input = UnsafeRawBufferPointer(rebasing: input[count...])
    return .done(count)
  }

  fileprivate func write(_ bytes: UnsafeRawBufferPointer) -> TLSSession.Progress {
    let count = min(bytes.count, output.count - outputFilled)
    guard count > 0 else { return bytes.isEmpty ? .done(0) : .needsOutput }
    UnsafeMutableRawBufferPointer(rebasing: output[outputFilled...])
      .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
    outputFilled += count
    return .done(count)
  }
}
