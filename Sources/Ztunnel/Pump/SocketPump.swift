import Glibc
import Linux

/// Moves bytes between two TCP sockets, both ways, until both have ended (datapath.md §14). A reset of one is a reset of
/// the other.
final class SocketPump: Pump {
  private let client: SharedDescriptor
  private let upstream: SharedDescriptor
  private let loop: EventLoop
  private let scratch: UnsafeMutableRawBufferPointer
  private let up: CopyDirection
  private let down: CopyDirection
  private var watches: [Watch] = []
  private var completion: ((PumpOutcome) -> Void)?
  private var turnScheduled = false

  /// `scratch` is the loop's: it is used within one call at a time. `position` is where another pump has left the same
  /// connection.
  init(
    client: SharedDescriptor, upstream: SharedDescriptor, loop: EventLoop, scratch: UnsafeMutableRawBufferPointer,
    at position: PumpPosition = PumpPosition()
  ) {
    self.client = client
    self.upstream = upstream
    self.loop = loop
    self.scratch = scratch
    up = CopyDirection(from: client.raw, to: upstream.raw, at: position.up)
    down = CopyDirection(from: upstream.raw, to: client.raw, at: position.down)
  }

  /// Starts to move bytes. `completion` is called once, when it is over. On the loop.
  func start(_ completion: @escaping (PumpOutcome) -> Void) {
    self.completion = completion
    do throws(SystemError) {
      try watch(client, reads: up, writes: down)
      try watch(upstream, reads: down, writes: up)
    } catch {
      abort(.system(error))
      return
    }
    turn()
  }

  var progress: PumpOutcome { PumpOutcome(fromClient: up.moved, toClient: down.moved) }

  /// Ends both sides at once with a reset.
  func abort(_ reason: ProxyError) {
    finish(reason, reset: true)
  }

  let canLeave = true

  func leave() -> PumpLeaving? {
    guard completion != nil else { return nil }
    completion = nil
    // The sockets live on elsewhere, so the kernel would not forget the watches by itself.
    for watch in watches { watch.cancel() }
    watches = []
    guard let up = up.leave(), let down = down.leave() else {
      TCPSocket.setResetOnClose(client.raw)
      TCPSocket.setResetOnClose(upstream.raw)
      return nil
    }
    return PumpLeaving(client: client, upstream: upstream, position: PumpPosition(up: up, down: down))
  }

  private func watch(_ socket: SharedDescriptor, reads: CopyDirection, writes: CopyDirection) throws(SystemError) {
    let watch = try loop.watch(socket.raw, for: [.readable, .writable, .peerClosed, .urgent], mode: .edge) {
      [unowned self] events in
      if !events.isDisjoint(with: [.readable, .peerClosed, .hangUp, .error, .urgent]) { reads.readable = true }
      if !events.isDisjoint(with: [.peerClosed, .hangUp, .error, .urgent]) { reads.shortReadsProveNothing = true }
      if !events.isDisjoint(with: [.writable, .error]) { writes.writable = true }
      // A reset is behind the bytes that came before it, so it is left to the read that finds it, if there is one.
      if events.contains(.error), reads.hasSourceEnded, let number = TCPSocket.pendingError(socket.raw) {
        failed(number, whileReading: true, direction: reads)
        return
      }
      turn()
    }
    watches.append(watch)
  }

  private func turn() {
    guard completion != nil else { return }
    var steps: [CopyDirection.Step] = []
    for direction in [up, down] {
      let step = direction.advance(scratch)
      if case .failed(let number, let whileReading) = step {
        failed(number, whileReading: whileReading, direction: direction)
        return
      }
      steps.append(step)
    }
    if steps.allSatisfy({ $0 == .finished }) {
      finish(nil, reset: false)
    } else if steps.contains(.more), !turnScheduled {
      turnScheduled = true
      loop.afterEvents { [weak self] in
        guard let self else { return }
        turnScheduled = false
        turn()
      }
    }
  }

  private func failed(_ number: CInt, whileReading: Bool, direction: CopyDirection) {
    let isReset = [ECONNRESET, EPIPE, ENOTCONN].contains(number)
    let text = SystemError(whileReading ? "recv" : "send", number).summary
    finish(isReset ? nil : direction === up ? .send(text) : .receive(text), reset: true)
  }

  private func finish(_ failure: ProxyError?, reset: Bool) {
    guard let completion else { return }
    self.completion = nil
    for watch in watches { watch.cancelForClose() }
    watches = []
    if reset {
      TCPSocket.setResetOnClose(client.raw)
      TCPSocket.setResetOnClose(upstream.raw)
    }
    completion(PumpOutcome(fromClient: up.moved, toClient: down.moved, failure: failure))
  }
}
