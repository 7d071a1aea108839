import DequeModule

/// Lets one task of a loop through at a time, in the order in which they came. Belongs to the loop.
final class LoopGate {
  private var isTaken = false
  private var waiting: Deque<UnsafeContinuation<Void, Never>> = []

  /// Suspends until the gate is free, runs `body` and frees it.
  func pass<Value>(_ body: () async -> Value) async -> Value {
    if isTaken {
      await withUnsafeContinuation { waiting.append($0) }
    } else {
      isTaken = true
    }
    let value = await body()
    if let next = waiting.popFirst() { next.resume() } else { isTaken = false }
    return value
  }
}
