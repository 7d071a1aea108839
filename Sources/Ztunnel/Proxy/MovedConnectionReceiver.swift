import Linux
import Logging

/// Takes from a pod's mailbox, on one loop, what an earlier process has left. The mailbox is shared with other loops; the
/// kernel wakes one.
final class MovedConnectionReceiver {
  private let mailbox: Mailbox
  private let pod: PodProxy
  private let loop: EventLoop
  private let reserve: DescriptorReserve
  private let logger: Logger
  private let received: (MovedConnection) -> Void
  private var watch: Watch?
  private var pause: LoopTimer?

  /// Rest where there are no descriptors: a message that is taken without room for its own is lost.
  private static let rest = Duration.milliseconds(100)

  init(
    _ mailbox: Mailbox, of pod: PodProxy, loop: EventLoop, reserve: DescriptorReserve, logger: Logger,
    received: @escaping (MovedConnection) -> Void
  ) {
    self.mailbox = mailbox
    self.pod = pod
    self.loop = loop
    self.reserve = reserve
    self.logger = logger
    self.received = received
  }

  /// Starts to take.
  func start() {
    guard watch == nil else { return }
    pause?.cancel()
    pause = nil
    do throws(SystemError) {
      watch = try loop.watch(mailbox.descriptor.raw, for: .readable, mode: .shared) { [unowned self] _ in take() }
    } catch {
      logger.warning(
        "connections of an earlier ztunnel cannot be taken over yet",
        metadata: ["workload": "\(pod.info)", "error": "\(error)"])
      startLater()
    }
  }

  private func startLater() {
    pause = loop.schedule(after: Self.rest) { [unowned self] in start() }
  }

  /// Leaves what comes to others.
  func rest() {
    pause?.cancel()
    pause = nil
    watch?.cancel()
    watch = nil
  }

  private func take() {
    for _ in 0..<Acceptor.turn {
      guard reserve.isComplete else {
        rest()
        return startLater()
      }
      for _ in 0..<Mailbox.mostDescriptors { _ = reserve.release() }
      do throws(SystemError) {
        guard let message = try mailbox.take() else { return }
        do throws(MovedConnectionError) {
          received(try MovedConnection(message, in: pod.namespace.identity))
        } catch {
          logger.warning(
            "a connection of an earlier ztunnel is reset",
            metadata: ["workload": "\(pod.info)", "error": "\(error)"])
        }
      } catch {
        logger.warning(
          "connections of an earlier ztunnel cannot be taken over",
          metadata: ["workload": "\(pod.info)", "error": "\(error)"])
        return
      }
    }
  }
}
