import CLinux
import Linux

/// Gives memory back that a burst of connections has left free: the heap keeps it for the next burst, which may never come.
///
/// The heap is locked meanwhile, a few milliseconds where much is given back, so it is done seldom. On the control loop.
final class MemoryReturn {
  private let workers: [WorkerHandle]
  private let loop: EventLoop
  private var burst = Burst()

  /// Between looks at the workers.
  private static let interval = Duration.seconds(1)
  /// Between two returns, at least.
  private static let pause = Duration.seconds(10)

  init(_ workers: [WorkerHandle], on loop: EventLoop) {
    self.workers = workers
    self.loop = loop
  }

  /// Looks from now on, until the loop ends.
  func start() { look(after: Self.interval) }

  private func look(after delay: Duration) {
    _ = loop.schedule(after: delay) { [weak self] in
      guard let self else { return }
      let isOver = burst.isOver(connections: workers.reduce(0) { $0 + $1.burden.count })
      if isOver { malloc_trim(0) }
      look(after: isOver ? Self.pause : Self.interval)
    }
  }

  /// Tells when the number of connections has fallen so far that what the others needed is worth giving back.
  struct Burst {
    /// The most seen since the last one was over.
    private var most = 0
    /// Fewer leave nothing behind that is worth the work.
    static let least = 128

    mutating func isOver(connections: Int) -> Bool {
      most = max(most, connections)
      guard most - connections >= Self.least, connections <= most / 2 else { return false }
      most = connections
      return true
    }
  }
}
