import JSON
import Kubernetes
import Linux
import Logging

/// Deletes or labels pods whose sidecar found no redirection (enrollment.md §11), and says so in their events.
///
/// Pods of the ambient mesh never need it: what started too early is enrolled while it runs. Belongs to its event loop.
final class PodRepair {
  /// What came of one pod (`istio_cni_repair_pods_repaired_total`).
  struct Outcome: Hashable {
    enum Result: String { case success, skip, fail }
    let action: String
    let result: Result
  }

  private let settings: RepairSettings
  private let client: APIClient
  private let events: PodEventRecorder
  private let logger: Logger
  private var underWay: Set<String> = []
  private var done: Set<String> = []
  private let metrics: AgentMetrics?

  private static let attempts = 5
  /// UIDs that are remembered as done with.
  private static let mostRemembered = 10_000

  init(
    _ settings: RepairSettings, client: APIClient, events: PodEventRecorder, metrics: AgentMetrics? = nil,
    logger: Logger
  ) {
    self.settings = settings
    self.client = client
    self.events = events
    self.metrics = metrics
    self.logger = logger
  }

  /// Looks at a pod that is new or has changed.
  func consider(_ pod: Pod) {
    let uid = pod.meta.uid
    guard settings.isBroken(pod), !pod.meta.isBeingDeleted, !done.contains(uid), underWay.insert(uid).inserted else {
      return
    }
    client.loop.spawn { [self] in
      let (outcome, isFinal) = await act(on: pod)
      metrics?.repairedPods(outcome.action, outcome.result.rawValue).add()
      underWay.remove(uid)
      if done.count >= Self.mostRemembered { done = [] }
      if isFinal { done.insert(uid) }
    }
  }

  /// `isFinal`: the pod needs no more looks.
  private func act(on pod: Pod) async -> (Outcome, isFinal: Bool) {
    guard let action = settings.action else {
      events.warn(
        pod, reason: "SidecarWithoutRedirection",
        "the sidecar found no redirection; this agent writes none for sidecars: delete the pod, or have it deleted")
      return (Outcome(action: settings.wantsRedirection ? "repair" : "none", result: .skip), true)
    }
    if action == .label, pod.meta.labels[settings.labelKey] != nil {
      return (Outcome(action: "label", result: .skip), true)
    }
    var backOff = BackOff()
    var failure: KubernetesError?
    for attempt in 0..<Self.attempts {
      if attempt > 0 { await client.loop.sleep(for: backOff.delay()) }
      do throws(KubernetesError) {
        try await client.send(Self.request(action, pod, settings))
        logger.notice(
          "repaired a pod without redirection", metadata: ["pod": "\(pod.meta.reference)", "by": "\(action)"])
        let reason = action == .delete ? "DeleteBrokenPod" : "LabelBrokenPod"
        events.warn(pod, reason: reason, "the sidecar found no redirection")
        return (Outcome(action: action.rawValue, result: .success), true)
      } catch {
        // Gone, or changed: if it is still broken, the watch will show it again.
        if error.isNotFound || error.isConflict { return (Outcome(action: action.rawValue, result: .skip), false) }
        failure = error
      }
    }
    if let failure {
      logger.error("a pod is not repaired", metadata: ["pod": "\(pod.meta.reference)", "error": "\(failure)"])
    }
    return (Outcome(action: action.rawValue, result: .fail), false)
  }

  /// Only that very pod, and a deletion only of what was seen.
  static func request(_ action: RepairSettings.Action, _ pod: Pod, _ settings: RepairSettings) -> APIRequest {
    switch action {
    case .delete:
      APIRequest(
        .delete, Pod.path(pod.meta.reference),
        [
          "apiVersion": "v1", "kind": "DeleteOptions",
          "preconditions": [
            "uid": .string(pod.meta.uid), "resourceVersion": .string(pod.meta.resourceVersion),
          ],
        ])
    case .label:
      .mergePatch(
        Pod.path(pod.meta.reference) + "/status",
        [
          "metadata": [
            "uid": .string(pod.meta.uid), "labels": [settings.labelKey: .string(settings.labelValue)],
          ]
        ])
    }
  }
}
