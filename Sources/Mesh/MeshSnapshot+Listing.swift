extension MeshSnapshot {
  /// Every endpoint of a service, ordered by uid, whether its health policy allows it or not.
  public func allEndpoints(of key: NamespacedHostname) -> [Endpoint] {
    endpoints[key].map { $0.sorted { $0.key < $1.key }.map(\.value) } ?? []
  }

  /// Services that have endpoints but are not known themselves (yet), ordered by key.
  public var stagedServices: [NamespacedHostname] {
    endpoints.keys.filter { services[$0] == nil }.sorted()
  }
}
