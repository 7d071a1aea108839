import Vocabulary

/// What is remembered of host names: answers for a while, failures for a moment. A value, told the time by its callers.
struct NameCache {
  enum Answer: Equatable {
    case known([IPAddress])
    case failed(ResolutionError)
    case mustAsk
  }

  private struct Entry {
    var addresses: [IPAddress]
    /// Addresses are not used any more after this, even if no newer ones can be had.
    var usableUntil: ContinuousClock.Instant
    var failure: ResolutionError?
    /// Until then there is no new question.
    var freshUntil: ContinuousClock.Instant
  }

  private var entries: [String: Entry] = [:]
  private let capacity: Int

  /// Names remembered (services.md §5.1).
  static let standardCapacity = 4096
  /// The system's lookup does not tell how long an answer is valid, so it is asked again soon.
  static let freshness = Duration.seconds(30)
  /// A failure is remembered just long enough to shield the name servers from every connection.
  static let failureFreshness = Duration.seconds(2)
  /// Addresses outlive failures to get newer ones by so much: most of them still work.
  static let staleness = Duration.seconds(300)

  init(capacity: Int = standardCapacity) { self.capacity = max(1, capacity) }

  var count: Int { entries.count }

  /// What to do for a connection to `hostname`.
  func answer(for hostname: String, at now: ContinuousClock.Instant) -> Answer {
    guard let entry = entries[hostname], now < entry.freshUntil else { return .mustAsk }
    if !entry.addresses.isEmpty, now < entry.usableUntil { return .known(entry.addresses) }
    return .failed(entry.failure ?? .notFound)
  }

  /// Takes over what a lookup came to, and returns what those who waited for it get. A name that does not exist loses
  /// its addresses; name servers that fail do not take them away.
  mutating func store(_ resolution: Resolution, for hostname: String, at now: ContinuousClock.Instant) -> Resolution {
    if entries[hostname] == nil, entries.count >= capacity { makeRoom(at: now) }
    switch resolution {
    case .success(let addresses):
      entries[hostname] = Entry(
        addresses: addresses, usableUntil: now + Self.freshness + Self.staleness, failure: nil,
        freshUntil: now + Self.freshness)
      return resolution
    case .failure(let error):
      var entry = Entry(addresses: [], usableUntil: now, failure: error, freshUntil: now + Self.failureFreshness)
      if error != .notFound, let previous = entries[hostname], now < previous.usableUntil {
        entry.addresses = previous.addresses
        entry.usableUntil = previous.usableUntil
      }
      entries[hostname] = entry
      return entry.addresses.isEmpty ? resolution : .success(entry.addresses)
    }
  }

  /// Drops what is useless by now, else the entry that will be first.
  private mutating func makeRoom(at now: ContinuousClock.Instant) {
    let useful = entries.filter { now < $0.value.freshUntil || now < $0.value.usableUntil }
    if useful.count < entries.count {
      entries = useful
    } else if let oldest = entries.min(by: { $0.value.freshUntil < $1.value.freshUntil })?.key {
      entries[oldest] = nil
    }
  }
}
