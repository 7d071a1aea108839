import DequeModule
import Glibc

/// One of the parties among which a loop divides its time, such as the connections of one pod.
///
/// What is watched, spawned, scheduled or put off while a share has its turn belongs to that share, so that code need not
/// know of shares: whoever starts something for a party starts it with ``EventLoop/within(_:_:)`` or
/// ``EventLoop/spawn(in:_:)``. It is made on any thread and then touched by its loop's thread only.
public final class LoopShare: TaskExecutor, @unchecked Sendable {
  // @unchecked: only `enqueue` is called by other threads, and that goes through the loop's locked inbox.

  /// A task keeps its loop alive, see `EventLoop.spawn(in:_:)`.
  private unowned let loop: EventLoop
  private var events: Deque<Watch> = []
  private var jobs: Deque<UnownedJob> = []
  private var deferred: Deque<() -> Void> = []
  /// It waits for its turn in the loop's queue.
  var isQueued = false

  /// The steps of a round. What events resumed comes before what was put off, so that one flush sends what all of them
  /// have written.
  private enum Phase { case events, jobs, deferred }
  private var phase = Phase.events
  /// Entries of the phase that belong to the round under way; later ones wait for the next.
  private var left = 0
  private var isInRound = false

  public init(of loop: EventLoop) { self.loop = loop }

  /// The run-time's entry: queues a job. From any thread.
  public func enqueue(_ job: consuming ExecutorJob) { loop.enqueue(UnownedJob(job), in: self) }

  var hasWork: Bool { isInRound || !events.isEmpty || !jobs.isEmpty || !deferred.isEmpty }

  func append(_ watch: Watch) { events.append(watch) }
  func append(_ job: UnownedJob) { jobs.append(job) }
  func append(_ action: @escaping () -> Void) { deferred.append(action) }

  /// Runs until the round is over or the monotonic clock has reached `deadline`, in nanoseconds. At least one entry is run.
  func run(until deadline: UInt64) {
    if !isInRound {
      isInRound = true
      (phase, left) = (.events, events.count)
    }
    repeat {
      while left == 0 {
        switch phase {
        case .events: (phase, left) = (.jobs, jobs.count)
        case .jobs: (phase, left) = (.deferred, deferred.count)
        case .deferred:
          isInRound = false
          return
        }
      }
      left -= 1
      switch phase {
      case .events: events.popFirst()?.deliver()
      case .jobs: jobs.popFirst()?.runSynchronously(on: asUnownedTaskExecutor())
      case .deferred: deferred.popFirst()?()
      }
    } while MonotonicTime.now < deadline
  }
}

/// The monotonic clock as a number, for what is compared at each step of a loop.
enum MonotonicTime {
  /// Nanoseconds since some moment before the start.
  static var now: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}
