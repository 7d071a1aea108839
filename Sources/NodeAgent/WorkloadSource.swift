/// Where the list of wanted workloads comes from, complete and anew after each change. Belongs to the agent's event loop.
protocol WorkloadSource: AnyObject {
  func start()
  func stop()
  /// Looks at everything now, without waiting for an event.
  func reread()
}
