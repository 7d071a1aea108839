import Kubernetes
import Linux
import Vocabulary
import ZDS

/// This node's pods and the cluster's namespaces, as far as they are known, and what follows for the node. A value
/// without I/O.
struct ClusterView {
  /// A sandbox that the CNI plugin told of.
  struct Sandbox: Equatable {
    /// In this process's own mount namespace.
    var path: String?
    var containerID: String?
    var addresses: [IPAddress]
  }

  let rules: EnrolmentRules
  private(set) var pods: [ObjectReference: Pod] = [:]
  private var namespaces: [String: [String: String]] = [:]
  private var havePods = false
  private var haveNamespaces = false
  /// By UID.
  private var sandboxes: [String: Sandbox] = [:]
  /// Pods that the plugin told of before the watch did.
  private var announced: Set<ObjectReference> = []
  /// Pods whose sandbox is being taken down, with the addresses it had.
  private var releasing: [String: [IPAddress]] = [:]
  /// UIDs that may have redirection of ours inside, from this run of the agent or an earlier one.
  private(set) var touched: Set<String>

  init(rules: EnrolmentRules, touched: Set<String> = []) {
    self.rules = rules
    self.touched = touched
  }

  /// Both lists were read once: what is not known now does not exist.
  var isComplete: Bool { havePods && haveNamespaces }

  // MARK: What the cluster says

  mutating func receive(_ change: ObjectChange<Pod>) {
    switch change {
    case .replaced(let list, let unreadable):
      var kept = pods.filter { unreadable.contains($0.key) || announced.contains($0.key) }
      for pod in list { kept[pod.meta.reference] = pod }
      pods = kept
      havePods = true
      announced.formIntersection(Set(kept.keys).subtracting(list.map(\.meta.reference)))
      forgetGone()
    case .changed(let pod):
      let before = pods.updateValue(pod, forKey: pod.meta.reference)
      announced.remove(pod.meta.reference)
      if let before, before.meta.uid != pod.meta.uid { forgetGone() }
      if let old = releasing[pod.meta.uid], !pod.addresses.isEmpty, Set(pod.addresses) != Set(old) {
        releasing[pod.meta.uid] = nil
      }
    case .deleted(let reference):
      pods[reference] = nil
      announced.remove(reference)
      forgetGone()
    }
  }

  mutating func receive(_ change: ObjectChange<Namespace>) {
    switch change {
    case .replaced(let list, let unreadable):
      namespaces = namespaces.filter { unreadable.contains(ObjectReference(namespace: "", name: $0.key)) }
      for namespace in list { namespaces[namespace.meta.name] = namespace.meta.labels }
      haveNamespaces = true
    case .changed(let namespace): namespaces[namespace.meta.name] = namespace.meta.labels
    case .deleted(let reference): namespaces[reference.name] = nil
    }
  }

  private mutating func forgetGone() {
    let uids = Set(pods.values.map(\.meta.uid))
    sandboxes = sandboxes.filter { uids.contains($0.key) }
    releasing = releasing.filter { uids.contains($0.key) }
  }

  // MARK: What the runtime says

  /// A pod with a new sandbox, asked for just now.
  mutating func admit(_ pod: Pod, namespace labels: [String: String], _ sandbox: Sandbox) {
    if pods[pod.meta.reference]?.meta.uid != pod.meta.uid {
      pods[pod.meta.reference] = pod
      announced.insert(pod.meta.reference)
    }
    if namespaces[pod.meta.namespace] == nil { namespaces[pod.meta.namespace] = labels }
    sandboxes[pod.meta.uid] = sandbox
    releasing[pod.meta.uid] = nil
  }

  /// The watch has not shown this pod in a long time: it was gone before it was there.
  mutating func dropUnconfirmed(_ reference: ObjectReference) {
    guard announced.remove(reference) != nil else { return }
    pods[reference] = nil
    forgetGone()
  }

  func isUnconfirmed(_ reference: ObjectReference) -> Bool { announced.contains(reference) }

  /// The pod whose sandbox this is. Nil where it has another one, or none that is known.
  func owner(path: String?, containerID: String?) -> String? {
    sandboxes.first { _, sandbox in
      if let containerID, let known = sandbox.containerID { return containerID == known }
      return path != nil && sandbox.path == path
    }?.key
  }

  /// The sandbox goes: until the pod has another one, it is not on this node's list.
  mutating func release(_ uid: String) {
    let known = pods.values.first { $0.meta.uid == uid }?.addresses ?? []
    releasing[uid] = known.isEmpty ? sandboxes[uid]?.addresses ?? [] : known
    sandboxes[uid] = nil
  }

  /// Nobody has told of another sandbox in time: if there is one, it is found without being told.
  mutating func endRelease(_ uid: String) { releasing[uid] = nil }

  // MARK: What follows

  /// Nil where the pod's namespace is not known (yet).
  func verdict(_ pod: Pod) -> EnrolmentRules.Verdict? {
    namespaces[pod.meta.namespace].map { rules.verdict(pod, namespace: $0) }
  }

  func labels(ofNamespace name: String) -> [String: String]? { namespaces[name] }

  func pod(_ uid: String) -> Pod? { pods.values.first { $0.meta.uid == uid } }

  /// Remembers that redirection of ours may be inside, before it is.
  mutating func touch(_ uid: String) { touched.insert(uid) }

  /// There is nothing of ours inside any more.
  mutating func untouch(_ uid: String) { touched.remove(uid) }

  /// All that this node's agent has to do with: pods in the mesh, and pods out of it that may have redirection inside.
  var workloads: [DesiredWorkload] {
    pods.values.compactMap { pod in
      guard releasing[pod.meta.uid] == nil, let verdict = verdict(pod) else { return nil }
      switch verdict {
      case .inMesh: return workload(pod, inMesh: true)
      case .outside(let reason):
        // What somebody wrote about the pod is a hint that it needs a look, not a proof of what is inside.
        let mayBeCaptured = touched.contains(pod.meta.uid) || pod.redirectionStatus != nil
        return mayBeCaptured && !reason.isForeign && reason != .terminated ? workload(pod, inMesh: false) : nil
      }
    }
  }

  private func workload(_ pod: Pod, inMesh: Bool) -> DesiredWorkload? {
    guard let uid = WorkloadUID(pod.meta.uid) else { return nil }
    let sandbox = sandboxes[pod.meta.uid]
    let addresses = pod.addresses.isEmpty ? sandbox?.addresses ?? [] : pod.addresses
    return DesiredWorkload(
      uid: uid,
      info: WorkloadInfo(
        name: pod.meta.name, namespace: pod.meta.namespace, serviceAccount: pod.serviceAccountName),
      location: .pod(PodPlacement(uid: pod.meta.uid, addresses: addresses, sandbox: sandbox?.path)),
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
