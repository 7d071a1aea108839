import Synchronization

/// The filter in force, changeable while the process runs.
///
/// Safe from any thread. A target's threshold is one atomic load, so that asking costs a data-path thread nothing; a
/// change reaches every target at once.
public final class LogLevels: Sendable {
  /// The threshold of one target, kept current by the ``LogLevels`` it came from.
  public final class TargetLevel: Sendable {
    public let target: String
    private let value: Atomic<Int>

    init(target: String, threshold: LogThreshold) {
      self.target = target
      value = Atomic(threshold.rawValue)
    }

    public var threshold: LogThreshold { LogThreshold(rawValue: value.load(ordering: .relaxed)) ?? .off }

    func set(_ threshold: LogThreshold) { value.store(threshold.rawValue, ordering: .relaxed) }
  }

  private struct PodLevel {
    weak var level: TargetLevel?
  }

  private struct State {
    var filter: LogFilter
    var targets: [String: TargetLevel] = [:]
    /// By `namespace/name`, as long as somebody has them.
    var pods: [String: PodLevel] = [:]

    mutating func apply(_ filter: LogFilter) {
      self.filter = filter
      for (name, pod) in pods { pod.level?.set(filter.threshold(ofPod: name)) }
      for level in targets.values { level.set(filter.threshold(for: level.target)) }
    }
  }

  /// The filter the process started with, which a reset returns to.
  public let startupFilter: LogFilter
  private let state: Mutex<State>

  public init(startupFilter: LogFilter = .standard) {
    self.startupFilter = startupFilter
    state = Mutex(State(filter: startupFilter))
  }

  /// The filter in force.
  public var filter: LogFilter { state.withLock { $0.filter } }

  /// Every target that has been asked for, sorted: what a filter can usefully name.
  public var knownTargets: [String] { state.withLock { $0.targets.keys.sorted() } }

  /// The threshold of a target, to be kept by whoever logs to it. One is held for every distinct target asked for, so
  /// targets must come from the source code and never from the network.
  public func level(for target: String) -> TargetLevel {
    state.withLock { state in
      if let known = state.targets[target] { return known }
      let level = TargetLevel(target: target, threshold: state.filter.threshold(for: target))
      state.targets[target] = level
      return level
    }
  }

  /// The threshold of one pod, `namespace/name`, to be kept by whoever writes about it; forgotten with the last who does.
  /// It is that of the clauses for `pod/namespace/name`, and `off` where there are none.
  public func level(ofPod name: String) -> TargetLevel {
    state.withLock { state in
      if let known = state.pods[name]?.level { return known }
      state.pods = state.pods.filter { $0.value.level != nil }
      let level = TargetLevel(target: LogFilter.podPrefix + name, threshold: state.filter.threshold(ofPod: name))
      state.pods[name] = PodLevel(level: level)
      return level
    }
  }

  /// Puts clauses after those in force, as `POST /logging?level=` does (observability.md §3), and returns the result.
  /// Throws ``LogFilterError/tooManyClauses(limit:)`` and then changes nothing.
  @discardableResult
  public func append(_ clauses: LogFilter) throws(LogFilterError) -> LogFilter {
    try state.withLock { state throws(LogFilterError) in
      state.apply(try state.filter.appending(clauses))
      return state.filter
    }
  }

  /// Returns to the startup filter, with further clauses after it if any are given, and returns the result.
  /// Throws ``LogFilterError/tooManyClauses(limit:)`` and then changes nothing.
  @discardableResult
  public func reset(then clauses: LogFilter? = nil) throws(LogFilterError) -> LogFilter {
    let filter = try clauses.map { clauses throws(LogFilterError) in try startupFilter.appending(clauses) }
    return state.withLock { state in
      state.apply(filter ?? startupFilter)
      return state.filter
    }
  }
}
