import Glibc
import HTTP2
import Linux

/// Moves bytes between a TCP socket and an HTTP/2 stream, both ways, until both have ended (hbone.md §9).
///
/// Bytes from the socket are read straight into the frame that carries them; bytes from the stream are written
/// straight out of the decryption buffer, and only what the socket does not take is kept. The peer gets its credit
/// back as the socket drains, so that at most one stream window is ever held.
///
/// A reset on one side is a reset on the other: an application must be able to tell a broken connection from an end.
final class TunnelPump: Pump, HTTP2StreamHandler {
  private let stream: HTTP2Stream
  private let socket: SharedDescriptor
  private let side: PumpSide
  private let loop: EventLoop
  private var watch: Watch?
  private var completion: ((PumpOutcome) -> Void)?

  private var readable: Bool
  private var writable = true
  /// The socket has ended, failed or holds an urgent byte, at which a read stops.
  private var shortReadsProveNothing = false
  private var errorTimer: LoopTimer?
  private var socketEnded = false
  /// The socket's end was read, so that nothing is left in it.
  private var socketIsEmpty = false
  private var streamEnded = false
  private var streamOver = false
  private var isShutDown = false
  private var pending = PendingBytes()
  private var gathered: [iovec] = []
  private var gatheredCount = 0
  private var fromSocket: UInt64 = 0
  private var toSocket: UInt64 = 0

  /// Pieces written at once, below the kernel's limit of 1024.
  private static let mostPieces = 256

  init(_ stream: HTTP2Stream, _ socket: SharedDescriptor, socketIs side: PumpSide, loop: EventLoop) {
    self.stream = stream
    self.socket = socket
    self.side = side
    self.loop = loop
    // A client has often sent its first bytes by now; an application that was just connected has not yet been asked.
    readable = side == .client
  }

  /// Starts to move bytes. `completion` is called once, when it is over. On the loop.
  func start(_ completion: @escaping (PumpOutcome) -> Void) {
    self.completion = completion
    do throws(SystemError) {
      watch = try loop.watch(socket.raw, for: [.readable, .writable, .peerClosed, .urgent], mode: .edge) {
        [unowned self] in handle($0)
      }
    } catch {
      abort(.system(error))
      return
    }
    stream.forgetHeaders()
    stream.handler = self
    stream.resumeSending()
  }

  var progress: PumpOutcome {
    side == .client
      ? PumpOutcome(fromClient: fromSocket, toClient: toSocket)
      : PumpOutcome(fromClient: toSocket, toClient: fromSocket)
  }

  /// Ends both sides at once with a reset.
  func abort(_ reason: ProxyError) {
    finish(reason, reset: true)
  }

  // MARK: The socket

  private func handle(_ events: ReadyEvents) {
    if !events.isDisjoint(with: [.peerClosed, .hangUp, .error, .urgent]) { shortReadsProveNothing = true }
    if events.contains(.error) { noticeError() }
    if !events.isDisjoint(with: [.readable, .peerClosed, .hangUp, .error, .urgent]) {
      readable = true
      if !socketEnded { stream.resumeSending() }
    }
    if events.contains(.writable), !writable {
      writable = true
      drain()
    }
  }

  /// A reset is behind the bytes that came before it, so it is left to the read that finds it. Only when nothing is read,
  /// because the socket has ended or the stream's window is used up, it is asked for.
  private func noticeError() {
    if socketEnded {
      failOnPendingError()
    } else if errorTimer == nil {
      errorTimer = loop.schedule(after: .seconds(1)) { [weak self] in self?.failOnPendingError() }
    }
  }

  private func failOnPendingError() {
    if let number = TCPSocket.pendingError(socket.raw) { failed(number, whileReading: true) }
  }

  func streamSupply(_ room: UnsafeMutableRawBufferPointer) -> HTTP2Supply {
    guard readable, !socketEnded else { return .nothingYet }
    switch RawIO.read(socket.raw, room) {
    case .moved(let count):
      fromSocket += UInt64(count)
      // With edge triggering a short read has emptied the socket, unless its end is still to be read.
      if count < room.count, !shortReadsProveNothing { readable = false }
      return .bytes(count)
    case .ended:
      socketEnded = true
      socketIsEmpty = true
      finishIfOver()
      return .end
    case .wouldBlock:
      readable = false
      return .nothingYet
    case .failed(let number):
      failed(number, whileReading: true)
      return .nothingYet
    }
  }

  private func failed(_ number: CInt, whileReading: Bool) {
    let isReset = [ECONNRESET, EPIPE, ENOTCONN].contains(number)
    let towardsUpstream = whileReading == (side == .client)
    let error = SystemError(whileReading ? "recv" : "send", number)
    finish(isReset ? nil : towardsUpstream ? .send(error.summary) : .receive(error.summary), reset: true)
  }

  // MARK: The stream

  func streamReceived(_ chunk: UnsafeRawBufferPointer) {
    if !pending.isEmpty || !writable {
      pending.append(chunk)
      return
    }
    gathered.append(iovec(iov_base: UnsafeMutableRawPointer(mutating: chunk.baseAddress), iov_len: chunk.count))
    gatheredCount += chunk.count
    if gathered.count == Self.mostPieces { writeGathered() }
  }

  func streamReceivedEnd() { streamEnded = true }

  func streamRoundEnded() {
    if !gathered.isEmpty { writeGathered() }
    shutDownIfDrained()
  }

  private func writeGathered() {
    // The end that follows goes into the segment of the last bytes.
    let result = RawIO.write(socket.raw, &gathered, endFollows: streamEnded)
    var written = 0
    switch result {
    case .moved(let count): written = count
    case .wouldBlock, .ended: break
    case .failed(let number):
      gathered.removeAll(keepingCapacity: true)
      gatheredCount = 0
      failed(number, whileReading: false)
      return
    }
    if written < gatheredCount {
      writable = false
      var skip = written
      for piece in gathered {
        if skip >= piece.iov_len {
          skip -= piece.iov_len
          continue
        }
        let bytes = UnsafeRawBufferPointer(start: piece.iov_base, count: piece.iov_len)
        pending.append(UnsafeRawBufferPointer(rebasing: bytes[skip...]))
        skip = 0
      }
    }
    gathered.removeAll(keepingCapacity: true)
    gatheredCount = 0
    wrote(written)
  }

  private func drain() {
    while !pending.isEmpty {
      switch pending.withBytes({ RawIO.write(socket.raw, $0) }) {
      case .moved(let count):
        pending.removeFirst(count)
        wrote(count)
      case .wouldBlock, .ended:
        writable = false
        return
      case .failed(let number):
        failed(number, whileReading: false)
        return
      }
    }
    shutDownIfDrained()
  }

  private func wrote(_ count: Int) {
    guard count > 0 else { return }
    toSocket += UInt64(count)
    stream.consume(count)
  }

  private func shutDownIfDrained() {
    guard streamEnded, pending.isEmpty, !isShutDown, completion != nil else { return }
    isShutDown = true
    // With nothing left in either direction the close that follows says the same.
    if !streamOver || !socketIsEmpty { TCPSocket.shutdownWrite(socket.raw) }
    finishIfOver()
  }

  func streamClosed(_ end: HTTP2StreamEnd) {
    streamOver = true
    switch end {
    case .complete, .reset(.noError):
      // The peer wants no more and has no more: an end of both directions (hbone.md §9). Also after the peer's own end,
      // which it may follow by a reset while this side has not ended yet (RFC 9113 §8.1): nobody would read the socket
      // any more, so its end must not be waited for.
      streamEnded = true
      socketEnded = true
    case .reset(.cancel), .reset(.connectError), .reset(.streamClosed):
      // The application behind the peer reset its connection, or the peer ended it on purpose.
      finish(nil, reset: true)
      return
    case .reset(let code):
      finish(side == .client ? .receive("stream reset: \(code)") : .send("stream reset: \(code)"), reset: true)
      return
    case .connectionLost(.peerRevoked):
      finish(.peerRevoked, reset: true)
      return
    case .connectionLost(let error):
      finish(side == .client ? .receive(error.summary) : .send(error.summary), reset: true)
      return
    }
    // The stream's last bytes may have come in the round that is under way, of which nothing more will be said.
    if !gathered.isEmpty { writeGathered() }
    shutDownIfDrained()
    finishIfOver()
  }

  // MARK: The end

  private func finishIfOver() {
    if streamOver, socketEnded, isShutDown { finish(nil, reset: false) }
  }

  private func finish(_ failure: ProxyError?, reset: Bool) {
    guard let completion else { return }
    self.completion = nil
    watch?.cancelForClose()
    watch = nil
    errorTimer?.cancel()
    errorTimer = nil
    // Bytes that nobody read would make the close a reset, and the reset would cost the application what it was sent.
    if reset { TCPSocket.setResetOnClose(socket.raw) } else if !socketIsEmpty { RawIO.discardInput(socket.raw) }
    if !streamOver { stream.reset(failure == nil ? .connectError : .cancel) }
    pending = PendingBytes()
    var outcome = progress
    outcome.failure = failure
    completion(outcome)
  }
}
