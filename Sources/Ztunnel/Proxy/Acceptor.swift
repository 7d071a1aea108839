import Glibc
import Linux
import Vocabulary

/// Takes connections from one listener on one loop. The listener is shared with other loops; the kernel wakes one.
final class Acceptor {
  private let listener: PodListener
  var role: ListenerRole { listener.role }
  private let loop: EventLoop
  private let trouble: AcceptTrouble
  private let reserve: DescriptorReserve
  private let accepted: (SharedDescriptor, SocketAddress) -> Void
  private var watch: Watch?
  private var pause: LoopTimer?
  private var stopped = false
  private var isResting = false
  /// Since when nothing was accepted for lack of descriptors.
  private var shortSince: ContinuousClock.Instant?

  /// Connections taken in one turn, so that workers share a burst.
  static let turn = 16
  /// More than the kernel's backlog holds.
  private static let longestBacklog = 8192
  /// Rest after the system had no descriptor or memory left: trying again at once would only burn the processor.
  private static let rest = Duration.milliseconds(100)
  /// A shortage that lasts longer is none of a moment: tunnels that come meanwhile are turned away, so that their clients can
  /// go elsewhere instead of waiting for their time-out. Applications, which go nowhere else, wait on.
  private static let patience = Duration.seconds(1)

  init(
    _ listener: PodListener, loop: EventLoop, reserve: DescriptorReserve, trouble: AcceptTrouble,
    accepted: @escaping (SharedDescriptor, SocketAddress) -> Void
  ) {
    self.listener = listener
    self.loop = loop
    self.reserve = reserve
    self.trouble = trouble
    self.accepted = accepted
  }

  /// Starts to accept. Throws ``SystemError``.
  func start() throws(SystemError) {
    isResting = false
    pause?.cancel()
    watch?.cancel()
    watch = try loop.watch(listener.socket.raw, for: .readable, mode: .shared) { [unowned self] _ in
      accept(atMost: Self.turn)
    }
  }

  /// Leaves new connections in the queue, for whoever else has the socket; ``start()`` takes them again.
  func rest() {
    isResting = true
    pause?.cancel()
    pause = nil
    watch?.cancel()
    watch = nil
  }

  /// Accepts no more. With `takingBacklog`, what the kernel has completed already is taken first: those clients have
  /// seen their connection succeed.
  func stop(takingBacklog: Bool) {
    stopped = true
    pause?.cancel()
    watch?.cancel()
    watch = nil
    // A bound, since more may come as fast as they are taken.
    if takingBacklog { accept(atMost: Self.longestBacklog) }
  }

  private func accept(atMost limit: Int) {
    // What is accepted needs a second descriptor; without one for it, it waits better where it is.
    guard stopped || reserve.isComplete else { return meetShortage(SystemError("accept4", EMFILE)) }
    for _ in 0..<limit {
      let connection: AcceptedConnection?
      do throws(SystemError) { connection = try TCPSocket.accept(listener.socket.raw) } catch {
        if error.number == ECONNABORTED { continue }
        if !stopped, !isResting { meetShortage(error) }
        return
      }
      guard let connection else { return }
      if shortSince != nil {
        shortSince = nil
        trouble.recovered(role)
      }
      // A client whose address is gone has gone itself (datapath.md §2).
      guard let peer = connection.peer else { continue }
      accepted(SharedDescriptor(connection.take()), peer)
    }
  }

  /// Lets who has come wait; or, where that would be in vain, goes away.
  private func meetShortage(_ shortage: SystemError) {
    let since = shortSince ?? .now
    shortSince = since
    guard role == .hbone, case .noDescriptors = AcceptError(shortage), since + Self.patience <= .now else {
      return wait(after: shortage)
    }
    for _ in 0..<Self.turn {
      do throws(SystemError) {
        guard try turnAway() else { return }
      } catch { return wait(after: error) }
      trouble.turnAway(role, shortage)
    }
  }

  /// Takes one connection and closes it. False when nobody waits.
  private func turnAway() throws(SystemError) -> Bool {
    try reserve.withOneMore { () throws(SystemError) in
      guard let connection = try TCPSocket.accept(listener.socket.raw) else { return false }
      TCPSocket.setResetOnClose(connection.descriptor.raw)
      return true
    }
  }

  /// Tries again later what has failed.
  func retryStart(after error: SystemError) { wait(after: error) }

  private func wait(after error: SystemError) {
    trouble.report(role, error)
    watch?.cancel()
    watch = nil
    pause = loop.schedule(after: Self.rest) { [unowned self] in
      do throws(SystemError) { try start() } catch { wait(after: error) }
    }
  }
}
