/// Where the list of wanted workloads comes from, whole and anew after each change. Belongs to the agent's event loop.
protocol WorkloadSource: AnyObject {
  func start()
  func stop()
  /// Looks at everything now, without waiting for an event.
  func reread()
}

/// What a list of wanted workloads is good for.
enum Completeness: Sendable {
  /// All there are: what is not in it is to leave the mesh.
  case complete
  /// What an earlier run of the agent had in the mesh, while nobody can be asked. There may be more.
  case remembered
}
