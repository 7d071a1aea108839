import Synchronization

/// Which worker serves a connection that one of them has accepted.
///
/// The kernel wakes the worker that has waited longest, and that is the same one again and again while all are idle: a
/// few streams opened at once, each worth a processor, would end up on one. So whoever accepts looks at what the others
/// have. A connection never moves once it is served. Safe from any thread.
final class WorkerBalance: Sendable {
  /// One worker, as the others see it.
  final class Member: Sendable {
    let handle: WorkerHandle
    let load: WorkerLoad

    init(_ handle: WorkerHandle, _ load: WorkerLoad) {
      self.handle = handle
      self.load = load
    }
  }

  private let members = Mutex<[Member]>([])

  /// Sets all workers, in order of their index. Once, before any pod is served; until then nothing is handed over.
  func set(_ members: [Member]) { self.members.withLock { $0 = members } }

  /// Both sides of a hand-over to a worker that has less to do than the one with index `own`; nil to keep what it has.
  func lessBusy(than own: Int) -> (mine: Member, other: Member)? {
    members.withLock { members in
      let loads = members.map { $0.load.isSilent ? Int.max : $0.load.count }
      return Self.choice(own: own, loads: loads).map { (members[own], members[$0]) }
    }
  }

  /// The index of the least load, when it is less than `own`'s by more than an eighth: where there are many connections,
  /// evenness is not worth waking another thread. Nil for `own`.
  static func choice(own: Int, loads: [Int]) -> Int? {
    guard loads.indices.contains(own), let least = loads.indices.min(by: { loads[$0] < loads[$1] }) else { return nil }
    guard loads[least] < Int.max, loads[own] > loads[least] + loads[least] / 8 else { return nil }
    return least
  }
}

/// How much a worker has to do: connections, tunnels of peers, and what is on its way to it. Safe from any thread.
final class WorkerLoad: Sendable {
  private let connections = Atomic<Int>(0)
  private let silent = Atomic<Bool>(false)

  var count: Int { connections.load(ordering: .relaxed) }

  func add(_ change: Int) { connections.wrappingAdd(change, ordering: .relaxed) }

  /// It has not taken in time what was handed to it: it gets no more until it shows life.
  var isSilent: Bool {
    get { silent.load(ordering: .relaxed) }
    set { silent.store(newValue, ordering: .relaxed) }
  }
}

/// A connection on its way from the worker that accepted it to the one that shall serve it. Whoever claims it serves it.
final class ConnectionHandover: Sendable {
  private let isClaimed = Atomic<Bool>(false)

  /// True once, for the first who asks. From any thread.
  func claim() -> Bool {
    isClaimed.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged
  }
}
