extension MeshSnapshot {
  /// Every endpoint of a service, ordered by uid, whether its health policy allows it or not.
  public func allEndpoints(of key: NamespacedHostname) -> [Endpoint] {
    var all: [Endpoint] = []
    endpoints[key]?.forEach { all.append($0) }
    return all.sorted { $0.workload.uid < $1.workload.uid }
  }

  /// Services that have endpoints but are not known themselves (yet), ordered by key.
  public var stagedServices: [NamespacedHostname] {
    endpoints.keys.filter { services[$0] == nil }.sorted()
  }
}
