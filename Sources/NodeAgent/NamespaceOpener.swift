import Linux

/// Opens namespaces of workloads, and refuses the node's own.
public struct NamespaceOpener: Sendable {
  /// Namespaces that must never be captured.
  private let refused: Set<NamespaceIdentity>
  private let finder: PodNamespaceFinder

  public init(refusing refused: Set<NamespaceIdentity>, finder: PodNamespaceFinder = PodNamespaceFinder()) {
    self.refused = refused
    self.finder = finder
  }

  /// Refuses the namespace of this process and that of process 1. Call it before any thread enters another namespace.
  /// `proc` is the node's `/proc`: `/host/proc` in a container.
  public static func ofThisNode(proc: String = "/proc") -> NamespaceOpener {
    var refused: Set<NamespaceIdentity> = [NetworkNamespace.home.identity]
    // Not readable without CAP_SYS_PTRACE; then the process's own namespace is the one to protect.
    for root in Set(["/proc", proc]) {
      if let first = try? NetworkNamespace(path: "\(root)/1/ns/net") { refused.insert(first.identity) }
    }
    return NamespaceOpener(refusing: refused, finder: PodNamespaceFinder(proc: proc))
  }

  /// Opens what is at `location` now. `held` is the namespace that was found there before: a pod whose processes cannot
  /// be found for a moment keeps it, as long as it has one of the pod's addresses.
  ///
  /// Blocks for a moment. Throws ``EnrolmentError``: not found, of another type, not permitted, or the node's own.
  public func open(_ location: NamespaceLocation, held: NetworkNamespace? = nil) throws(EnrolmentError)
    -> NetworkNamespace
  {
    let namespace =
      switch location {
      case .path(let path): try file(path)
      case .process(let process): try file(NamespaceLocation.path(ofProcess: process))
      case .unit(let unit): try service(unit)
      case .pod(let placement): try pod(placement, held)
      }
    guard !refused.contains(namespace.identity) else { throw .hostNamespace(path: "\(location)") }
    return namespace
  }

  /// The pod of this UID is gone.
  public func forgetPod(_ uid: String) { finder.forget(uid) }

  private func file(_ path: String) throws(EnrolmentError) -> NetworkNamespace {
    do { return try NetworkNamespace(path: path) } catch { throw .namespace(error) }
  }

  /// The sandbox that the runtime told, while it is there; else what the pod's processes are in.
  private func pod(_ placement: PodPlacement, _ held: NetworkNamespace?) throws(EnrolmentError) -> NetworkNamespace {
    if let path = placement.sandbox {
      do throws(EnrolmentError) {
        let namespace = try file(path)
        if placement.expected == nil || placement.expected == namespace.identity {
          guard !placement.addresses.isEmpty else { return namespace }
          if owns(placement, namespace) { return namespace }
        }
        // Held open by whoever, or another one's by now, but not the pod's any more.
      } catch { guard error.isMissingNamespace else { throw error } }
    }
    guard !placement.addresses.isEmpty else { throw .podWithoutAddress(uid: placement.uid) }
    if let found = finder.find(placement.uid, placement.addresses) { return found }
    if let held, owns(placement, held) { return held }
    throw .podNotFound(uid: placement.uid, addresses: placement.addresses)
  }

  private func owns(_ placement: PodPlacement, _ namespace: NetworkNamespace) -> Bool {
    (try? namespace.holds(anyOf: placement.addresses)) == true
  }

  /// The namespace of the first of its processes that has one of its own: what runs before the service itself may not.
  private func service(_ unit: SystemdUnit) throws(EnrolmentError) -> NetworkNamespace {
    let processes = unit.processes()
    for process in processes {
      guard let namespace = try? NetworkNamespace(path: NamespaceLocation.path(ofProcess: process)) else { continue }
      if !refused.contains(namespace.identity) { return namespace }
    }
    if processes.isEmpty { throw .namespace(.notFound(path: "the service \(unit), which does not run,")) }
    throw .hostNamespace(path: "the service \(unit)")
  }
}
