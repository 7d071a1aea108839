public import Mesh

/// The mesh in force, put together from all that describe it: a local file first, then the control plane, each with its
/// changes (xds.md §7). Belongs to the control loop.
public final class MeshState {
  /// Called with the mesh now in force and what changed in it.
  public typealias Publish = (MeshSnapshot, MeshDelta) -> Void

  public private(set) var snapshot: MeshSnapshot
  private let publisher: Publish
  /// What was changed while an update was being put together; nil while there is none.
  private var changedMeanwhile: [MeshChange]?

  /// An empty mesh.
  public init(settings: MeshSettings, publish: @escaping Publish) {
    snapshot = MeshSnapshot(settings: settings)
    publisher = publish
  }

  /// Makes changes without telling anybody; the caller publishes the result. A delta that is empty changed nothing.
  func load(_ changes: [MeshChange]) -> MeshDelta {
    changedMeanwhile?.append(contentsOf: changes)
    let (next, delta) = snapshot.applying(changes)
    if !delta.isEmpty { snapshot = next }
    return delta
  }

  /// Tells what has changed.
  func publish(_ delta: MeshDelta) { publisher(snapshot, delta) }

  // MARK: Updates that are put together elsewhere

  /// An update of the mesh of now, to be put together on any thread and given to ``finish(_:_:)``; one at a time.
  func beginUpdate() -> MeshUpdate {
    changedMeanwhile = []
    return MeshUpdate(of: snapshot)
  }

  /// Makes an update the mesh in force. What others have changed meanwhile stays changed: it is changed again on top.
  func finish(_ update: MeshUpdate, _ delta: MeshDelta) {
    let meanwhile = changedMeanwhile ?? []
    changedMeanwhile = nil
    guard !delta.isEmpty else { return }
    snapshot = meanwhile.isEmpty ? update.snapshot : update.snapshot.applying(meanwhile).snapshot
    publish(delta)
  }
}
