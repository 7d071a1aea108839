import Linux

/// Opens namespaces of workloads, and refuses the node's own.
public struct NamespaceOpener: Sendable {
  /// Namespaces that must never be captured.
  private let refused: Set<NamespaceIdentity>

  public init(refusing refused: Set<NamespaceIdentity>) {
    self.refused = refused
  }

  /// Refuses the namespace of this process and that of process 1. Call it before any thread enters another namespace.
  public static func ofThisNode() -> NamespaceOpener {
    var refused: Set<NamespaceIdentity> = [NetworkNamespace.home.identity]
    // Not readable without CAP_SYS_PTRACE; then the process's own namespace is the one to protect.
    if let first = try? NetworkNamespace(path: "/proc/1/ns/net") { refused.insert(first.identity) }
    return NamespaceOpener(refusing: refused)
  }

  /// Throws ``EnrolmentError``: not found, of another type, not permitted, or the node's own.
  public func open(_ location: NamespaceLocation) throws(EnrolmentError) -> NetworkNamespace {
    if case .unit(let unit) = location { return try open(unit) }
    let namespace: NetworkNamespace
    do { namespace = try NetworkNamespace(path: location.path) } catch { throw .namespace(error) }
    guard !refused.contains(namespace.identity) else { throw .hostNamespace(path: location.path) }
    return namespace
  }

  /// The namespace of the first of its processes that has one of its own: what runs before the service itself may not.
  private func open(_ unit: SystemdUnit) throws(EnrolmentError) -> NetworkNamespace {
    let processes = unit.processes()
    for process in processes {
      guard let namespace = try? NetworkNamespace(path: NamespaceLocation.path(ofProcess: process)) else { continue }
      if !refused.contains(namespace.identity) { return namespace }
    }
    if processes.isEmpty { throw .namespace(.notFound(path: "the service \(unit), which does not run,")) }
    throw .hostNamespace(path: "the service \(unit)")
  }
}
