/// A pending call at an instant. Belongs to one event loop's thread.
public final class LoopTimer {
  let deadline: ContinuousClock.Instant
  /// Whose time the action takes; nil for the loop's own.
  let share: LoopShare?
  var action: (() -> Void)?
  /// False once the queue has taken it out: its cancellation leaves nothing behind there.
  var isQueued = true
  private unowned let queue: TimerQueue

  init(
    deadline: ContinuousClock.Instant, queue: TimerQueue, share: LoopShare?, action: @escaping () -> Void
  ) {
    self.deadline = deadline
    self.queue = queue
    self.share = share
    self.action = action
  }

  /// The action will not run. Safe to call twice, and from the action itself.
  public func cancel() {
    guard action != nil else { return }
    action = nil
    if isQueued { queue.forgetOne() }
  }
}

/// Timers ordered by deadline: a binary heap in which cancelled entries stay until they are half of it, so that
/// arming and cancelling a deadline for every step of every connection costs little.
final class TimerQueue {
  private var heap: [LoopTimer] = []
  private var cancelled = 0

  /// Entries, cancelled ones included.
  var count: Int { heap.count }

  var nextDeadline: ContinuousClock.Instant? {
    while let first = heap.first, first.action == nil {
      removeFirst()
      cancelled -= 1
    }
    return heap.first?.deadline
  }

  func add(
    at deadline: ContinuousClock.Instant, in share: LoopShare? = nil, _ action: @escaping () -> Void
  ) -> LoopTimer {
    let timer = LoopTimer(deadline: deadline, queue: self, share: share, action: action)
    heap.append(timer)
    siftUp(heap.count - 1)
    return timer
  }

  /// Runs what is due at `now`, each after `enter` was told its share; what those actions arm waits for the next call.
  func fire(upTo now: ContinuousClock.Instant, enter: (LoopShare?) -> Void = { _ in }) {
    var due: [LoopTimer] = []
    while let deadline = nextDeadline, deadline <= now {
      due.append(removeFirst())
    }
    for timer in due {
      // None when an earlier action of this round has cancelled it.
      guard let action = timer.action else { continue }
      timer.action = nil
      enter(timer.share)
      action()
    }
  }

  fileprivate func forgetOne() {
    cancelled += 1
    guard cancelled > 64, cancelled > heap.count / 2 else { return }
    heap.removeAll { $0.action == nil }
    cancelled = 0
    for index in stride(from: heap.count / 2 - 1, through: 0, by: -1) { siftDown(index) }
  }

  @discardableResult
  private func removeFirst() -> LoopTimer {
    let first = heap[0]
    first.isQueued = false
    let last = heap.removeLast()
    if !heap.isEmpty {
      heap[0] = last
      siftDown(0)
    }
    return first
  }

  private func siftUp(_ start: Int) {
    var child = start
    while child > 0 {
      let parent = (child - 1) / 2
      guard heap[child].deadline < heap[parent].deadline else { return }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  private func siftDown(_ start: Int) {
    var parent = start
    while true {
      let left = 2 * parent + 1
      guard left < heap.count else { return }
      let right = left + 1
      let child = right < heap.count && heap[right].deadline < heap[left].deadline ? right : left
      guard heap[child].deadline < heap[parent].deadline else { return }
      heap.swapAt(child, parent)
      parent = child
    }
  }
}
