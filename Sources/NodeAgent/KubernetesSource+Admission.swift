import Kubernetes
import Linux
import Logging
import Redirection
import Vocabulary
import ZDS

extension KubernetesSource: PodAdmission {
  /// Time after which a pod that the plugin told of must have been seen in the watch, too.
  private static let confirmation = Duration.seconds(60)
  /// Time after which a sandbox that replaces a deleted one is looked for without being told.
  private static let release = Duration.seconds(30)

  func admit(
    _ sandbox: PodSandbox, until deadline: ContinuousClock.Instant
  ) async throws(PodAdmissionError) -> PodAdmissionOutcome {
    let (pod, labels) = try await lookUp(sandbox, until: deadline)
    if case .outside(let reason) = settings.rules.verdict(pod, namespace: labels) {
      return .notInMesh(reason: reason.rawValue)
    }
    guard let uid = WorkloadUID(pod.meta.uid) else { throw .unknownPod("\(pod.meta.reference)", uid: sandbox.uid) }
    let path = sandbox.networkNamespace.map(pathHere)
    view.admit(
      pod, namespace: labels,
      ClusterView.Sandbox(path: path, containerID: sandbox.containerID, addresses: sandbox.addresses))
    if view.isUnconfirmed(pod.meta.reference) {
      _ = loop.schedule(after: Self.confirmation) { [weak self] in
        self?.view.dropUnconfirmed(pod.meta.reference)
        self?.scheduleUpdate()
      }
    }
    update()
    return try await enrolled(uid, path, until: deadline)
  }

  /// Waits until the pod is captured with this sandbox.
  private func enrolled(
    _ uid: WorkloadUID, _ path: String?, until deadline: ContinuousClock.Instant
  ) async throws(PodAdmissionError) -> PodAdmissionOutcome {
    func outcome() -> Result<PodAdmissionOutcome, PodAdmissionError>? {
      let state = enroller.state(of: uid)
      if state == .announced, enroller.achieved(uid)?.sandbox == path { return .success(.captured) }
      guard enroller.attempted(uid)?.sandbox == path, case .failed(let error, _) = state else { return nil }
      // ztunnel may still come, or change its mind, before the plugin gives up.
      if case .announcement = error { return nil }
      return .failure(.enrolment(error))
    }
    await enroller.wait(until: deadline) { outcome() != nil }
    if let outcome = outcome() { return try outcome.get() }
    switch enroller.state(of: uid) {
    case .waitingForZtunnel: throw .enrolment(.announcement(.notConnected))
    case .failed(let error, _): throw .enrolment(error)
    case let state: throw .deadlineExceeded(step: "the pod was \(state?.description ?? "not wanted any more")")
    }
  }

  func prove(
    _ sandbox: PodSandbox, until deadline: ContinuousClock.Instant
  ) async throws(PodAdmissionError) -> PodAdmissionOutcome {
    let (pod, labels) = try await lookUp(sandbox, until: deadline)
    if case .outside(let reason) = settings.rules.verdict(pod, namespace: labels) {
      return .notInMesh(reason: reason.rawValue)
    }
    guard let path = sandbox.networkNamespace.map(pathHere), let uid = WorkloadUID(pod.meta.uid) else {
      throw .unknownPod("\(pod.meta.reference)", uid: sandbox.uid)
    }
    let wanted = enroller.defaults.adjusted(by: CaptureAnnotations.of(pod.meta.annotations).wishes)
    do throws(EnrolmentError) {
      let namespace = try await enroller.open(.path(path))
      let deviations = try await enroller.redirection { try $0.prove(wanted, in: namespace) }.deviations
      guard deviations.isEmpty else { throw .redirection(.init(RedirectionError.notProven(deviations))) }
    } catch { throw .enrolment(error) }
    switch enroller.state(of: uid) {
    case .announced: return .captured
    case .failed(let error, _): throw .enrolment(error)
    default: throw .enrolment(.announcement(.notConnected))
    }
  }

  func removed(_ sandbox: PodSandbox) async {
    let path = sandbox.networkNamespace.map(pathHere)
    guard let uid = view.owner(path: path, containerID: sandbox.containerID) else { return }
    view.release(uid)
    update()
    _ = loop.schedule(after: Self.release) { [weak self] in
      self?.view.endRelease(uid)
      self?.scheduleUpdate()
    }
  }

  // MARK: Who it is

  /// The pod and its namespace's labels. What the watch has shown serves, if it is that very pod; else the API server is
  /// asked, since the runtime is often faster than the watch.
  private func lookUp(
    _ sandbox: PodSandbox, until deadline: ContinuousClock.Instant
  ) async throws(PodAdmissionError) -> (Pod, [String: String]) {
    guard view.isComplete else { throw .starting }
    let reference = ObjectReference(namespace: sandbox.namespace, name: sandbox.name)
    do throws(KubernetesError) {
      let pod: Pod
      if let known = view.pods[reference], isThat(known, sandbox) {
        pod = known
      } else {
        pod = try await client.get(Pod.self, Pod.path(reference), within: left(deadline))
        guard sandbox.uid == nil || sandbox.uid == pod.meta.uid else {
          throw .refused(
            request: "GET \(Pod.path(reference))", status: 404, reason: "NotFound", message: "its UID is another one")
        }
      }
      if let labels = view.labels(ofNamespace: sandbox.namespace) { return (pod, labels) }
      let namespace = try await client.get(
        Namespace.self, Namespace.path(sandbox.namespace), within: left(deadline))
      return (pod, namespace.meta.labels)
    } catch {
      if error.isNotFound { throw .unknownPod("\(reference)", uid: sandbox.uid) }
      throw .lookup(.init(error))
    }
  }

  /// Without a UID from the runtime, a pod that is on its way out may have a successor of the same name.
  private func isThat(_ pod: Pod, _ sandbox: PodSandbox) -> Bool {
    sandbox.uid.map { $0 == pod.meta.uid } ?? (!pod.meta.isBeingDeleted && !pod.isTerminal)
  }

  private func left(_ deadline: ContinuousClock.Instant) -> Duration {
    max(.milliseconds(1), min(ContinuousClock.now.duration(to: deadline), APIClient.patience))
  }

  /// The runtime names paths as the node has them.
  private func pathHere(_ path: String) -> String { settings.hostRoot + path }
}

extension DesiredWorkload {
  /// The path of the pod's sandbox, where a plugin told one.
  var sandbox: String? {
    if case .pod(let placement) = location { placement.sandbox } else { nil }
  }
}
