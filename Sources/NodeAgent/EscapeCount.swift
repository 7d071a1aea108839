/// A count that grows although the counter it is read from starts anew with every rule that is written anew.
struct EscapeCount: Equatable, Sendable {
  private var finished: UInt64 = 0
  private var current: UInt64?

  /// All that was seen; nil when nothing was ever read.
  var total: UInt64? { current.map { finished &+ $0 } }

  /// Takes a reading; nil: there is none.
  mutating func observe(_ reading: UInt64?) {
    guard let reading else { return }
    // A counter that went back was made anew.
    if let last = current, reading < last { finished &+= last }
    current = reading
  }
}
