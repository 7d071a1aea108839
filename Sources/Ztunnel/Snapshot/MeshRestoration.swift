import Logging
import Mesh
import TLS
import XDS

/// What a start finds of the mesh from before: the subscription that knows it, and the mesh that it makes.
struct MeshRestoration {
  let subscription: DeltaSubscription
  /// Changes nothing where nothing was kept or nothing of it can be used.
  let update: MeshUpdate
  /// Seconds since the control plane confirmed it; nil where there is none.
  let age: Int64?

  /// Reads the journal on top of `present`. What is wrong with it is logged, and the start goes on without.
  init(
    _ discovery: DiscoveryConfiguration, _ journal: MeshJournal?, limit: Duration, of present: MeshUpdate,
    logger: Logger
  ) {
    let nothing = DeltaSubscription(
      node: discovery.node, mode: discovery.isOnDemand ? .onDemand : .everything, retains: journal != nil)
    var (subscription, update, age): (DeltaSubscription, MeshUpdate, Int64?) = (nothing, present, nil)
    do throws(SnapshotError) {
      age = try journal?.restore(limit: limit) { portion throws(ResourceRejection) in
        try subscription.restore(portion, into: &update)
      }
    } catch {
      (subscription, update) = (nothing, present)
      logger.warning("the mesh from before the start is not used", metadata: ["error": "\(error)"])
    }
    (self.subscription, self.update, self.age) = (subscription, update, age)
  }
}
