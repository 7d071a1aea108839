/// Which pods have series of their own, and what all the others have done together.
///
/// A pod keeps its place as long as it is here, and what has been counted as `overflow` stays counted there: a counter
/// never falls because another pod comes or goes. The series of a pod that has left are shown no longer, but its part of
/// the overflow is.
struct PodPlaces: Sendable {
  static let overflow = WorkerReport.PodName(namespace: "overflow", name: "overflow")

  private let limit: Int
  private var named: Set<WorkerReport.PodName> = []
  /// Those without a place, with what was last heard of them.
  private var others: [WorkerReport.PodName: WorkerReport.Pod] = [:]
  /// Counted by pods without a place that have left, or were started anew.
  private var before = WorkerReport.Pod()
  private var hasOverflowed = false

  /// `limit` is the number of places.
  init(limit: Int) { self.limit = limit }

  /// What is to be shown of the pods that are here now, in the order of their names.
  mutating func show(_ pods: [WorkerReport.PodName: WorkerReport.Pod]) -> [(WorkerReport.PodName, WorkerReport.Pod)] {
    named = named.filter { pods[$0] != nil }
    for (name, last) in others where pods[name] == nil {
      before += last.counters
      others[name] = nil
    }
    for (name, now) in pods.sorted(by: { $0.key < $1.key }) where !named.contains(name) {
      if let last = others[name] {
        if now.hasRestarted(since: last) { before += last.counters }
        others[name] = now
      } else if named.count < limit {
        named.insert(name)
      } else {
        others[name] = now
      }
    }
    var shown = named.sorted().compactMap { name in pods[name].map { (name, $0) } }
    hasOverflowed = hasOverflowed || !others.isEmpty
    if hasOverflowed { shown.append((Self.overflow, others.values.reduce(into: before) { $0 += $1 })) }
    return shown
  }
}
