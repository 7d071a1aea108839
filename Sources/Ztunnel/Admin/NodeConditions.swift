import Synchronization

/// What may be wrong with a node for a while, whoever notices it. Safe from any thread.
final class NodeConditions: Sendable {
  struct Values: Sendable, Equatable {
    /// Without it no pod can come or go.
    var isAgentConnected = false
    /// Why the version of the mesh file on the disk is not in force; nil when it is.
    var meshFileError: String?
    /// Pods whose sockets did not fit into the service manager's descriptor store.
    var podsNotStored = 0
  }

  private let values = Mutex(Values())

  var current: Values { values.withLock { $0 } }

  func setAgentConnected(_ isConnected: Bool) { values.withLock { $0.isAgentConnected = isConnected } }

  func setMeshFileError(_ text: String?) { values.withLock { $0.meshFileError = text } }

  func setPodsNotStored(_ count: Int) { values.withLock { $0.podsNotStored = count } }
}
