import Mesh
import Synchronization

/// The mesh in force, for those who only look. Safe from any thread: a snapshot costs a few reference counts.
final class SharedMesh: Sendable {
  private let state: Mutex<MeshSnapshot>

  init(_ mesh: MeshSnapshot) { state = Mutex(mesh) }

  var snapshot: MeshSnapshot { state.withLock { $0 } }

  func set(_ mesh: MeshSnapshot) { state.withLock { $0 = mesh } }
}

/// The pods of this node, for those who only look. Safe from any thread.
final class SharedPods: Sendable {
  private let state = Mutex<[ConfigDump.Pod]>([])

  var all: [ConfigDump.Pod] { state.withLock { $0 } }

  func set(_ pods: [ConfigDump.Pod]) { state.withLock { $0 = pods } }
}
