import Vocabulary

/// A pod's sandbox as the container runtime names it to the CNI plugin (enrollment.md §8).
public struct PodSandbox: Equatable, Sendable {
  public var namespace: String
  public var name: String
  /// The pod's UID where the runtime gives it (`K8S_POD_UID`): a pod of the same name may be another one. A runtime that
  /// gives none, and Istio's own plugin, leave it nil.
  public var uid: String?
  /// The runtime's id of the sandbox. A pod whose sandbox is made anew keeps its UID and gets another one of these.
  /// Istio's own plugin does not tell it.
  public var containerID: String?
  /// `CNI_NETNS` as given, a path in the node's own mount namespace, such as `/var/run/netns/cni-1234`; nil when the
  /// runtime deletes a sandbox whose namespace is gone.
  public var networkNamespace: String?
  /// What the plugins before ours gave the pod.
  public var addresses: [IPAddress]

  public init(
    namespace: String, name: String, uid: String? = nil, containerID: String? = nil, networkNamespace: String? = nil,
    addresses: [IPAddress] = []
  ) {
    self.namespace = namespace
    self.name = name
    self.uid = uid
    self.containerID = containerID
    self.networkNamespace = networkNamespace
    self.addresses = addresses
  }
}

/// What became of a pod that may start.
public enum PodAdmissionOutcome: Equatable, Sendable {
  /// Redirection is proven in its namespace and ztunnel has acknowledged it.
  case captured
  /// It does not belong to the mesh; nothing was done. The text says why, for a log.
  case notInMesh(reason: String)
}

/// Why a pod must not start, or is not what it should be.
public enum PodAdmissionError: CodedError, Equatable {
  /// The agent has not read the cluster's state yet.
  case starting
  /// The API server does not know the pod, or knows another one of that name (`uid`).
  case unknownPod(String, uid: String?)
  /// The API server could not be asked.
  case lookup(EnrolmentError.Cause)
  /// It belongs to the mesh and could not be enrolled, or does not prove to be.
  case enrolment(EnrolmentError)
  /// Time was up; what was being done is in `step`.
  case deadlineExceeded(step: String)

  public var code: String {
    switch self {
    case .starting: "ADMISSION_AGENT_STARTING"
    case .unknownPod: "ADMISSION_UNKNOWN_POD"
    case .lookup: "ADMISSION_LOOKUP_FAILED"
    case .enrolment(let error): error.code
    case .deadlineExceeded: "ADMISSION_DEADLINE"
    }
  }

  public var summary: String {
    switch self {
    case .starting: "the node agent is starting and does not know yet which pods belong to the mesh"
    case .unknownPod(let pod, let uid):
      "the API server knows no pod \(pod)" + (uid.map { " with the UID \($0)" } ?? "")
    case .lookup(let cause): "the API server could not be asked: \(cause.summary)"
    case .enrolment(let error): error.summary
    case .deadlineExceeded(let step): "time was up while \(step)"
    }
  }

  public var remedy: String? {
    switch self {
    case .starting: "the runtime tries again by itself"
    case .unknownPod: "it was deleted or made anew meanwhile; the runtime gives up or tries again by itself"
    case .lookup(let cause): cause.remedy
    case .enrolment(let error): error.remedy
    case .deadlineExceeded: "see the node agent's log for this pod, and whether ztunnel runs on this node"
    }
  }
}

/// Decides about pods while the container runtime waits for them: what the CNI endpoint asks (enrollment.md §8.4).
///
/// All methods are called on the agent's event loop, any number of them at once, and for the same pod in the order in
/// which the runtime asked. A slow pod must not delay another.
public protocol PodAdmission: AnyObject {
  /// Enrols the pod if it belongs to the mesh. Returns only when it is captured and ztunnel has acknowledged it, or when
  /// it is certain that it does not belong to the mesh; the pod starts then. Idempotent.
  ///
  /// `deadline` is when the plugin gives up. The excluded namespaces count here too, whoever asks (enrollment.md limit
  /// 12). Throws ``PodAdmissionError``: the pod does not start, and the runtime tries again with a new sandbox.
  func admit(
    _ sandbox: PodSandbox, until deadline: ContinuousClock.Instant
  ) async throws(PodAdmissionError) -> PodAdmissionOutcome

  /// Proves that a running pod is what it should be: captured, or not in the mesh. Changes nothing.
  func prove(
    _ sandbox: PodSandbox, until deadline: ContinuousClock.Instant
  ) async throws(PodAdmissionError) -> PodAdmissionOutcome

  /// The runtime deletes this sandbox: its namespace must not be held open any longer (enrollment.md limit 10).
  ///
  /// The pod may have another sandbox by now, under the same name and UID: only what belongs to this
  /// ``PodSandbox/networkNamespace`` or ``PodSandbox/containerID`` is let go. May be told twice, and of sandboxes that
  /// never were in the mesh.
  func removed(_ sandbox: PodSandbox) async
}
