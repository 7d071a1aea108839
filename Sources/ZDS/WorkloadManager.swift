import Linux

/// Which workloads ztunnel serves, decided from what the node agent says: a pure state machine (zds.md §8).
///
/// It never starts or stops anything; the owner performs the returned actions and reports how starts ended.
/// Different from the reference, on purpose (zds.md §14):
/// - a protocol error closes the connection and everything is learnt anew; the process, and every connection
///   through it, goes on;
/// - a workload whose proxy could not start yet is not forgotten at a reconnect when the agent keeps it;
/// - changed workload info in the same namespace replaces the proxy;
/// - readiness falls the moment a start fails.
public struct WorkloadManager<Namespace: IdentifiedNamespace>: Sendable {
  public enum Input: Sendable {
    case connected
    /// The next instruction. The one before must have been answered.
    case instruction(WorkloadInstruction<Namespace>)
    case disconnected
    case startSucceeded(ProxyID)
    case startFailed(ProxyID, reason: String)
    case retryTimerFired
    /// The process is leaving.
    case shutDown
  }

  public enum Action: Sendable {
    case start(ProxyStart<Namespace>)
    case drain(ProxyID, DrainMode)
    /// Answer the instruction at hand.
    case answer(InstructionAnswer)
    /// Send `.retryTimerFired` after ``retryInterval``.
    case armRetryTimer
    /// The value of the readiness task `workload proxy manager` changed.
    case readiness(Bool)
  }

  /// What the admin dump says of one workload (zds.md §11).
  public enum State: String, Sendable {
    case pending = "Pending"
    case up = "Up"
  }

  /// Between two attempts to start what could not be started.
  public static var retryInterval: Duration { .seconds(5) }

  private struct Known {
    let info: WorkloadInfo
    let namespace: Namespace

    func isSame(as other: Known) -> Bool {
      info == other.info && namespace.identity == other.namespace.identity
    }
  }

  private struct Starting {
    let id: ProxyID
    let known: Known
    /// The instruction at hand waits for the outcome.
    var answers: Bool
  }

  private var running: [WorkloadUID: (id: ProxyID, known: Known)] = [:]
  private var starting: [WorkloadUID: Starting] = [:]
  private var pending: [WorkloadUID: Known] = [:]
  private var named: Set<WorkloadUID> = []
  private var connected = false
  private var snapshotDone = false
  private var leaving = false
  private var retryArmed = false
  private var attempts: UInt64 = 0
  private var reportedReady = false

  public init() {}

  /// Connected, the snapshot complete, and nothing waiting to be started (zds.md §11).
  public var isReady: Bool { connected && snapshotDone && pending.isEmpty }
  /// The agent is there and has named every workload; each was tried at least once.
  public var hasSnapshot: Bool { connected && snapshotDone }
  public var runningCount: Int { running.count }
  public var pendingCount: Int { pending.count }

  /// The namespaces of all that run, start or wait to be started.
  public var namespaces: Set<NamespaceIdentity> {
    Set((running.values.map(\.known) + starting.values.map(\.known) + pending.values).map(\.namespace.identity))
  }

  /// The run of a workload's proxy that is in force.
  public func proxy(of uid: WorkloadUID) -> ProxyID? { running[uid]?.id }

  /// Every workload of the admin dump. A deleted one is not in it, whatever its state was.
  public var workloads: [WorkloadUID: (info: WorkloadInfo, state: State)] {
    var all: [WorkloadUID: (info: WorkloadInfo, state: State)] = [:]
    for (uid, known) in pending { all[uid] = (known.info, .pending) }
    for (uid, start) in starting { all[uid] = (start.known.info, .pending) }
    for (uid, proxy) in running { all[uid] = (proxy.known.info, .up) }
    return all
  }

  public mutating func receive(_ input: Input) -> [Action] {
    var actions = act(on: input)
    if isReady != reportedReady {
      reportedReady = isReady
      // Before the answer: whoever saw the answer may ask for the readiness.
      actions.insert(.readiness(isReady), at: 0)
    }
    return actions
  }

  private mutating func act(on input: Input) -> [Action] {
    switch input {
    case .connected:
      connected = true
      snapshotDone = false
      named = []
      return []
    case .disconnected:
      connected = false
      snapshotDone = false
      for uid in starting.keys { starting[uid]?.answers = false }
      return []
    case .instruction(let instruction): return follow(instruction)
    case .startSucceeded(let id): return started(id)
    case .startFailed(let id, let reason): return failed(id, reason)
    case .retryTimerFired: return retry()
    case .shutDown:
      leaving = true
      pending = [:]
      let unanswered = starting.values.contains(where: \.answers)
      starting = [:]
      let proxies = running.values.map(\.id).sorted { $0.attempt < $1.attempt }
      running = [:]
      return proxies.map { .drain($0, .graceful) } + (unanswered ? [.answer(.refuseAndClose(.stopped))] : [])
    }
  }

  // MARK: Instructions

  private mutating func follow(_ instruction: WorkloadInstruction<Namespace>) -> [Action] {
    if leaving { return [.answer(.refuseAndClose(.stopped))] }
    switch instruction {
    case .add(let uid, let info, let namespace):
      if !snapshotDone { named.insert(uid) }
      return add(uid, Known(info: info, namespace: namespace))
    case .addWithoutNamespace(let uid, let error):
      if !snapshotDone { named.insert(uid) }
      return [.answer(.refuse(error.description))]
    case .keep(let uid):
      if snapshotDone { return [.answer(.refuseAndClose(.keepAfterSnapshot(uid)))] }
      named.insert(uid)
      return [.answer(.acknowledge)]
    case .delete(let uid):
      pending[uid] = nil
      starting[uid] = nil
      if !snapshotDone {
        // What runs goes on until the snapshot is complete: the agent may name it again.
        named.remove(uid)
        return [.answer(.acknowledge)]
      }
      return drain(uid, .removal) + [.answer(.acknowledge)]
    case .snapshotSent:
      if snapshotDone { return [.answer(.refuseAndClose(.repeatedSnapshot))] }
      let gone = Set(running.keys).subtracting(named).sorted()
      pending = pending.filter { named.contains($0.key) }
      starting = starting.filter { named.contains($0.key) }
      named = []
      snapshotDone = true
      return gone.flatMap { drain($0, .removal) } + [.answer(.acknowledge)]
    }
  }

  private mutating func add(_ uid: WorkloadUID, _ known: Known) -> [Action] {
    if let proxy = running[uid], proxy.known.isSame(as: known) { return [.answer(.acknowledge)] }
    if let start = starting[uid], start.known.isSame(as: known) {
      // A retry is under way already; its outcome is the answer.
      starting[uid]?.answers = true
      return []
    }
    if pending[uid] != nil { pending[uid] = known }
    // The old one first: in a namespace that is being replaced it serves nobody, and with another service account
    // it would go on speaking for someone else.
    return drain(uid, .immediate) + [start(uid, known, answers: true)]
  }

  private mutating func drain(_ uid: WorkloadUID, _ mode: DrainMode) -> [Action] {
    guard let proxy = running.removeValue(forKey: uid) else { return [] }
    return [.drain(proxy.id, mode)]
  }

  private mutating func start(_ uid: WorkloadUID, _ known: Known, answers: Bool) -> Action {
    attempts += 1
    let id = ProxyID(uid: uid, attempt: attempts)
    starting[uid] = Starting(id: id, known: known, answers: answers)
    return .start(ProxyStart(id: id, info: known.info, namespace: known.namespace))
  }

  // MARK: Outcomes

  private mutating func started(_ id: ProxyID) -> [Action] {
    guard let start = starting[id.uid], start.id == id else {
      // Deleted, replaced, or the process is leaving.
      return [.drain(id, .immediate)]
    }
    starting[id.uid] = nil
    pending[id.uid] = nil
    running[id.uid] = (id, start.known)
    return start.answers ? [.answer(.acknowledge)] : []
  }

  private mutating func failed(_ id: ProxyID, _ reason: String) -> [Action] {
    guard let start = starting[id.uid], start.id == id else { return [] }
    starting[id.uid] = nil
    pending[id.uid] = start.known
    var actions: [Action] = start.answers ? [.answer(.refuse(reason))] : []
    if !retryArmed {
      retryArmed = true
      actions.append(.armRetryTimer)
    }
    return actions
  }

  private mutating func retry() -> [Action] {
    retryArmed = false
    // Also while the agent is away: what it said last still holds, and the pod waits for its proxy.
    return pending.keys.sorted().compactMap { uid in
      guard starting[uid] == nil, let known = pending[uid] else { return nil }
      return start(uid, known, answers: false)
    }
  }
}
