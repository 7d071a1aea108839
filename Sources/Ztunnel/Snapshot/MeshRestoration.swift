import Logging
import Mesh
import TLS
import XDS

/// What a start finds of the mesh from before: the subscription that knows it, and the changes that make it.
struct MeshRestoration {
  let subscription: DeltaSubscription
  /// Empty where nothing was kept or nothing of it can be used.
  let changes: [MeshChange]
  /// Seconds since the control plane confirmed it; nil where there is none.
  let age: Int64?

  /// Reads the journal. What is wrong with it is logged, and the start goes on without.
  init(_ node: NodeDescription, _ journal: MeshJournal?, limit: Duration, logger: Logger) {
    var subscription = DeltaSubscription(node: node, retains: journal != nil)
    var (changes, age): ([MeshChange], Int64?) = ([], nil)
    do throws(SnapshotError) {
      if let kept = try journal?.restore(limit: limit) {
        changes = subscription.restore(kept.responses)
        age = kept.age
      }
    } catch {
      logger.warning("the mesh from before the start is not used", metadata: ["error": "\(error)"])
    }
    (self.subscription, self.changes, self.age) = (subscription, changes, age)
  }
}
