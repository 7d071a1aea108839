import Vocabulary

/// One item of an update.
public enum MeshChange: Hashable, Sendable {
  case upsertWorkload(Workload.Record)
  case upsertService(Service.Record)
  case upsertPolicy(AuthorizationPolicy)
  case removeWorkload(uid: String)
  case removeService(NamespacedHostname)
  /// By `namespace/name`.
  case removePolicy(key: String)
  /// A name the control plane removed, whichever kind it was of (services.md §2).
  case removeAddress(name: String)
  /// The control plane was asked for it and has answered, be it that there is none. Of use where the mesh is learnt on
  /// demand.
  case settle(MeshKey)
  /// The control plane is no longer asked for it.
  case unsettle(MeshKey)
}

/// What an update changed, so that connections and certificates can be looked at again.
public struct MeshDelta: Equatable, Sendable {
  /// Uids of workloads that are new or different.
  public internal(set) var changedWorkloads: Set<String> = []
  public internal(set) var removedWorkloads: Set<String> = []
  public internal(set) var changedServices: Set<NamespacedHostname> = []
  public internal(set) var removedServices: Set<NamespacedHostname> = []
  /// `namespace/name` of policies that are new, different or gone.
  public internal(set) var changedPolicies: Set<String> = []
  /// Identities that local workloads have now and did not have before.
  public internal(set) var addedLocalIdentities: Set<SPIFFEIdentity> = []
  /// Identities that no local workload has any more: their certificates can be forgotten.
  public internal(set) var removedLocalIdentities: Set<SPIFFEIdentity> = []
  /// What is known to be there or not to be there is different.
  public internal(set) var areKeysChanged = false
  /// Removals that named nothing known.
  public internal(set) var unknownRemovals: [String] = []

  /// Identities of local workloads that came, went or changed.
  var touchedIdentities: Set<SPIFFEIdentity> = []

  public init() {}

  public var arePoliciesChanged: Bool { !changedPolicies.isEmpty }

  public var isEmpty: Bool {
    changedWorkloads.isEmpty && removedWorkloads.isEmpty && changedServices.isEmpty && removedServices.isEmpty
      && changedPolicies.isEmpty && !areKeysChanged
  }

  /// True when an inbound connection to the workload must be evaluated again, with the workload as it is now:
  /// a policy changed, or the workload did (its list of policies may be another).
  public func affectsPolicy(ofWorkload uid: String) -> Bool {
    arePoliciesChanged || changedWorkloads.contains(uid) || removedWorkloads.contains(uid)
  }
}
