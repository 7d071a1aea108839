public import Mesh

/// The mesh in force, put together from all that describe it: a local file first, then the control plane, each with its
/// changes (xds.md §7). Belongs to the control loop.
public final class MeshState {
  /// Called with the mesh now in force and what changed in it.
  public typealias Publish = (MeshSnapshot, MeshDelta) -> Void

  public private(set) var snapshot: MeshSnapshot
  private let publisher: Publish

  /// An empty mesh.
  public init(settings: MeshSettings, publish: @escaping Publish) {
    snapshot = MeshSnapshot(settings: settings)
    publisher = publish
  }

  /// Makes changes without telling anybody; the caller publishes the result. A delta that is empty changed nothing.
  func load(_ changes: [MeshChange]) -> MeshDelta {
    let (next, delta) = snapshot.applying(changes)
    if !delta.isEmpty { snapshot = next }
    return delta
  }

  /// Tells what has changed.
  func publish(_ delta: MeshDelta) { publisher(snapshot, delta) }

  /// Makes changes and tells of them.
  func apply(_ changes: [MeshChange]) {
    let delta = load(changes)
    if !delta.isEmpty { publish(delta) }
  }
}
