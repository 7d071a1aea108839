/// Those who wait for one certificate, each with a deadline. Adding and looking at the earliest deadline take constant
/// time, since a stalled authority and a busy pod make thousands of them.
struct WaiterQueue: Sendable {
  private var deadlines: [UInt64: ContinuousClock.Instant] = [:]
  /// The earliest deadline, or an earlier instant where the waiter with the earliest has left.
  private(set) var earliest: ContinuousClock.Instant?

  var isEmpty: Bool { deadlines.isEmpty }

  mutating func add(_ waiter: UInt64, until deadline: ContinuousClock.Instant) {
    deadlines[waiter] = deadline
    earliest = min(earliest ?? deadline, deadline)
  }

  mutating func remove(_ waiter: UInt64) {
    deadlines[waiter] = nil
    if deadlines.isEmpty { earliest = nil }
  }

  /// Removes and returns those whose deadline has come.
  mutating func takeOverdue(_ now: ContinuousClock.Instant) -> [UInt64] {
    guard let earliest, earliest <= now else { return [] }
    let overdue = deadlines.filter { $0.value <= now }.map(\.key)
    for waiter in overdue { deadlines[waiter] = nil }
    self.earliest = deadlines.values.min()
    return overdue
  }

  /// Removes and returns all.
  mutating func takeAll() -> [UInt64] {
    defer { self = WaiterQueue() }
    return Array(deadlines.keys)
  }
}
