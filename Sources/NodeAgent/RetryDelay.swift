/// How long a workload waits before it is tried again: doubling up to a limit, starting over after success.
struct RetryDelay {
  let first: Duration
  let longest: Duration
  private var next: Duration

  init(first: Duration, longest: Duration) {
    self.first = first
    self.longest = longest
    next = first
  }

  mutating func delay() -> Duration {
    defer { next = min(next * 2, longest) }
    return next
  }

  mutating func reset() { next = first }
}
