import Kubernetes
import Linux
import Vocabulary
import ZDS

/// This node's pods and the cluster's namespaces, as far as they are known, and what follows for the node. A value
/// without I/O.
///
/// Pods are known by their UID: a name passes to another pod, and news of the old one may come after the new one is known.
struct ClusterView {
  /// A sandbox that the CNI plugin told of.
  struct Sandbox: Equatable {
    /// In this process's own mount namespace.
    var path: String?
    var containerID: String?
    var addresses: [IPAddress]
    /// What was at the path when an earlier run of the agent enrolled it; nil where the plugin told of it just now.
    var namespace: NamespaceIdentity?
  }

  private struct KnownNamespace {
    var meta: ObjectMeta
    /// Deleted, or not in the last list. What it said stays in force for the pods that are left in it.
    var isGone = false
  }

  let rules: EnrolmentRules
  /// By UID.
  private(set) var pods: [String: Pod] = [:]
  private var namespaces: [String: KnownNamespace] = [:]
  /// Pods that the last list had and that could not be read.
  private var unreadable: Set<ObjectReference> = []
  private var havePods = false
  private var haveNamespaces = false
  /// By UID.
  private var sandboxes: [String: Sandbox] = [:]
  /// UIDs of pods that the plugin told of before the watch did.
  private var announced: Set<String> = []
  /// Pods whose sandbox is being taken down, with the addresses it had.
  private var releasing: [String: [IPAddress]] = [:]
  /// UIDs that may have redirection of ours inside, from this run of the agent or an earlier one.
  private(set) var touched: Set<String>
  /// Pods that an earlier run of the agent had in the mesh, by UID.
  private let remembered: [String: RememberedPod]

  init(rules: EnrolmentRules, touched: Set<String> = [], remembered: [String: RememberedPod] = [:]) {
    self.rules = rules
    self.touched = touched.union(remembered.keys)
    self.remembered = remembered
    sandboxes = remembered.compactMapValues(\.sandbox)
  }

  /// Both lists were read once: what is not known now does not exist.
  var isComplete: Bool { havePods && haveNamespaces }

  // MARK: What the cluster says

  mutating func receive(_ change: ObjectChange<Pod>) {
    switch change {
    case .replaced(let list, let unreadable):
      var kept = pods.filter { unreadable.contains($0.value.meta.reference) || announced.contains($0.key) }
      for pod in list { kept[pod.meta.uid] = newer(pod) }
      pods = kept
      self.unreadable = unreadable
      havePods = true
      announced = announced.intersection(kept.keys).subtracting(list.map(\.meta.uid))
      forgetGone()
    case .changed(let pod):
      let uid = pod.meta.uid
      announced.remove(uid)
      pods[uid] = newer(pod)
      // A name is one pod's at a time, so whoever the watch showed with it before is gone. One that only the plugin has
      // told of is not: this may be its predecessor, whose story the watch is still telling.
      let others = pods.filter { $0.key != uid && $0.value.meta.reference == pod.meta.reference }
      for gone in others.keys where !announced.contains(gone) { pods[gone] = nil }
      if !others.isEmpty { forgetGone() }
      if let old = releasing[uid], !pod.addresses.isEmpty, Set(pod.addresses) != Set(old) { releasing[uid] = nil }
    case .deleted(let reference, let uid):
      let gone = pods.filter { known, pod in
        uid.isEmpty ? pod.meta.reference == reference && !announced.contains(known) : known == uid
      }
      for uid in gone.keys {
        pods[uid] = nil
        announced.remove(uid)
      }
      forgetGone()
    }
  }

  /// What the server was asked for lately may be ahead of the watch.
  private func newer(_ pod: Pod) -> Pod {
    guard let known = pods[pod.meta.uid], pod.meta.precedes(known.meta) else { return pod }
    return known
  }

  mutating func receive(_ change: ObjectChange<Namespace>) {
    switch change {
    case .replaced(let list, let unreadable):
      let named = Set(list.map(\.meta.name)).union(unreadable.map(\.name))
      for name in namespaces.keys where !named.contains(name) { namespaces[name]?.isGone = true }
      for namespace in list { take(namespace) }
      haveNamespaces = true
      forgetGone()
    case .changed(let namespace): take(namespace)
    case .deleted(let reference, let uid):
      guard let known = namespaces[reference.name], uid.isEmpty || known.meta.uid.isEmpty || uid == known.meta.uid
      else { return }
      namespaces[reference.name]?.isGone = true
      forgetGone()
    }
  }

  private mutating func take(_ namespace: Namespace) {
    if let known = namespaces[namespace.meta.name], namespace.meta.precedes(known.meta) { return }
    namespaces[namespace.meta.name] = KnownNamespace(meta: namespace.meta)
  }

  private mutating func forgetGone() {
    let used = Set(pods.values.map(\.meta.namespace))
    namespaces = namespaces.filter { !$0.value.isGone || used.contains($0.key) }
    // Sandboxes of an earlier run wait for the first list.
    guard havePods else { return }
    sandboxes = sandboxes.filter { pods[$0.key] != nil }
    releasing = releasing.filter { pods[$0.key] != nil }
  }

  // MARK: What the runtime says

  /// A pod with a new sandbox, and its namespace, both as the server or the watch had them just now.
  mutating func admit(_ pod: Pod, in namespace: Namespace, _ sandbox: Sandbox) {
    let uid = pod.meta.uid
    if pods[uid] == nil { announced.insert(uid) }
    pods[uid] = newer(pod)
    take(namespace)
    sandboxes[uid] = sandbox
    releasing[uid] = nil
  }

  /// The server does not know this pod, which the watch never showed: it was gone before it was there.
  mutating func dropUnconfirmed(_ uid: String) {
    guard announced.remove(uid) != nil else { return }
    pods[uid] = nil
    forgetGone()
  }

  /// Only the plugin has told of it yet.
  func isUnconfirmed(_ uid: String) -> Bool { announced.contains(uid) }

  /// The pod whose sandbox this is. Nil where it has another one, or none that is known.
  func owner(path: String?, containerID: String?) -> String? {
    sandboxes.first { _, sandbox in
      if let containerID, let known = sandbox.containerID { return containerID == known }
      return path != nil && sandbox.path == path
    }?.key
  }

  /// The sandbox goes: until the pod has another one, it is not on this node's list.
  mutating func release(_ uid: String) {
    let known = pods[uid]?.addresses ?? []
    releasing[uid] = known.isEmpty ? sandboxes[uid]?.addresses ?? [] : known
    sandboxes[uid] = nil
  }

  /// Nobody has told of another sandbox in time: if there is one, it is found without being told.
  mutating func endRelease(_ uid: String) { releasing[uid] = nil }

  // MARK: What follows

  /// Nil where the pod's namespace is not known (yet).
  func verdict(_ pod: Pod) -> EnrolmentRules.Verdict? {
    namespaces[pod.meta.namespace].map { rules.verdict(pod, namespace: $0.meta.labels) }
  }

  /// A namespace that is there, as far as is known.
  func namespace(_ name: String) -> Namespace? {
    namespaces[name].flatMap { $0.isGone ? nil : Namespace(meta: $0.meta) }
  }

  /// All pods that have this name, or had it last.
  func pods(named reference: ObjectReference) -> [Pod] { pods.values.filter { $0.meta.reference == reference } }

  /// Remembers that redirection of ours may be inside, before it is.
  mutating func touch(_ uid: String) { touched.insert(uid) }

  /// There is nothing of ours inside any more.
  mutating func untouch(_ uid: String) { touched.remove(uid) }

  /// All that this node's agent has to do with: pods in the mesh, and pods out of it that may have redirection inside.
  /// Before the view is complete, what an earlier run of the agent had in the mesh.
  var workloads: [DesiredWorkload] {
    let left = remembered.values.filter { known in
      releasing[known.uid] == nil && (!isComplete || pods[known.uid] == nil && unreadable.contains(known.reference))
    }.compactMap(\.workload)
    guard isComplete else { return left }
    return left
      + pods.values.compactMap { pod in
        guard releasing[pod.meta.uid] == nil else { return nil }
        // A pod without a namespace that could be read stays what it was when the agent last knew.
        guard let verdict = verdict(pod) else { return remembered[pod.meta.uid]?.workload }
        switch verdict {
        case .inMesh: return workload(pod, inMesh: true)
        case .outside(let reason):
          // What somebody wrote about the pod is a hint that it needs a look, not a proof of what is inside.
          let mayBeCaptured = touched.contains(pod.meta.uid) || pod.redirectionStatus != nil
          return mayBeCaptured && !reason.isForeign && reason != .terminated ? workload(pod, inMesh: false) : nil
        }
      }
  }

  /// Whether there is anything to do yet.
  var isUsable: Bool { isComplete || !remembered.isEmpty }

  /// What the next run of the agent has to know of a workload of the mesh.
  func memory(of workload: DesiredWorkload, in namespace: NamespaceIdentity?) -> RememberedPod {
    let uid = workload.uid.text
    var sandbox = sandboxes[uid]
    if let namespace { sandbox?.namespace = namespace }
    return RememberedPod(
      uid: uid, info: workload.info, addresses: workload.location.addresses ?? [], annotations: workload.annotations,
      sandbox: sandbox)
  }

  private func workload(_ pod: Pod, inMesh: Bool) -> DesiredWorkload? {
    guard let uid = WorkloadUID(pod.meta.uid) else { return nil }
    let sandbox = sandboxes[pod.meta.uid]
    // What the plugin saw in the sandbox comes before what the cluster says: until the kubelet has told it, and while the
    // API server is away, those are the addresses of the sandbox before.
    let told = sandbox?.addresses ?? []
    let addresses = told.isEmpty ? pod.addresses : told
    return DesiredWorkload(
      uid: uid,
      info: WorkloadInfo(
        name: pod.meta.name, namespace: pod.meta.namespace, serviceAccount: pod.serviceAccountName),
      location: .pod(
        PodPlacement(
          uid: pod.meta.uid, addresses: addresses, sandbox: sandbox?.path, expected: sandbox?.namespace)),
      inMesh: inMesh, annotations: CaptureAnnotations.of(pod.meta.annotations).wishes)
  }
}

extension Pod {
  static let redirectionAnnotation = "ambient.istio.io/redirection"

  /// What an agent last wrote about this pod's state.
  var redirectionStatus: String? { meta.annotations[Self.redirectionAnnotation] }
}

extension CaptureAnnotations {
  /// The wishes among a pod's annotations, and those that cannot be understood: the pod is captured as if they were not
  /// there.
  static func of(_ annotations: [String: String]) -> (wishes: CaptureAnnotations, refused: [(String, Refusal)]) {
    var wishes = CaptureAnnotations()
    var refused: [(String, Refusal)] = []
    for key in [bypassInboundCaptureKey, dnsCaptureKey, rerouteInterfacesKey] {
      guard let value = annotations[key] else { continue }
      do throws(Refusal) { try wishes.set(key, to: value) } catch { refused.append((key, error)) }
    }
    return (wishes, refused)
  }
}
