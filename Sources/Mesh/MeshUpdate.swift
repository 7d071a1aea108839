import Vocabulary

/// A mesh being changed: readers have the one before until this one is complete.
///
/// It can be given changes in as many portions as its maker likes, on any thread; the cost of each is that of what it
/// changes, whatever the size of the mesh.
public struct MeshUpdate: Sendable {
  private let base: MeshSnapshot
  /// The mesh with all changes so far.
  public private(set) var snapshot: MeshSnapshot
  private var changed = MeshDelta()

  public init(of base: MeshSnapshot) {
    self.base = base
    snapshot = base
  }

  /// Makes changes in the order given.
  public mutating func apply(_ changes: some Sequence<MeshChange>) {
    for change in changes { snapshot.apply(change, &changed) }
  }

  /// What all changes together amount to.
  public var delta: MeshDelta {
    var delta = changed
    delta.settleIdentities(before: base.localIdentities, after: snapshot.localIdentities)
    return delta
  }
}
