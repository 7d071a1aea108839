import Kubernetes
import Linux
import Logging
import Redirection
import Vocabulary
import ZDS

extension KubernetesSource: PodAdmission {
  func admit(
    _ sandbox: PodSandbox, until deadline: ContinuousClock.Instant
  ) async throws(PodAdmissionError) -> PodAdmissionOutcome {
    let (pod, namespace) = try await lookUp(sandbox, until: deadline)
    if case .outside(let reason) = settings.rules.verdict(pod, namespace: namespace.meta.labels) {
      return .notInMesh(reason: reason.rawValue)
    }
    guard let uid = WorkloadUID(pod.meta.uid) else { throw .unknownPod("\(pod.meta.reference)", uid: sandbox.uid) }
    let path = sandbox.networkNamespace.map(pathHere)
    view.admit(
      pod, in: namespace,
      ClusterView.Sandbox(path: path, containerID: sandbox.containerID, addresses: sandbox.addresses))
    confirm(pod)
    update()
    return try await enrolled(uid, path, until: deadline)
  }

  /// A pod that the watch has not shown after a while may have gone before it was there; only the API server knows. Until
  /// it says so, the pod is there: a watch that is late, or a server that is away, takes nothing out of the mesh.
  private func confirm(_ pod: Pod) {
    let uid = pod.meta.uid
    guard view.isUnconfirmed(uid), confirming.insert(uid).inserted else { return }
    _ = loop.schedule(after: timing.confirmation) { [weak self] in
      guard let self, confirming.remove(uid) != nil, view.isUnconfirmed(uid) else { return }
      loop.spawn { [self] in
        if await isGone(pod) {
          view.dropUnconfirmed(uid)
          scheduleUpdate()
        } else {
          confirm(pod)
        }
      }
    }
  }

  /// Whether the API server says that there is no such pod.
  private func isGone(_ pod: Pod) async -> Bool {
    do throws(KubernetesError) {
      return try await client.get(Pod.self, Pod.path(pod.meta.reference)).meta.uid != pod.meta.uid
    } catch { return error.isNotFound }
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
      return error.isUnserved ? nil : .failure(.enrolment(error))
    }
    await enroller.wait(until: deadline) { outcome() != nil }
    if let outcome = outcome() { return try outcome.get() }
    switch enroller.state(of: uid) {
    case .waitingForZtunnel: throw .enrolment(enroller.trouble(of: uid) ?? .announcement(.notConnected))
    case .failed(let error, _): throw .enrolment(error)
    case let state: throw .deadlineExceeded(step: "the pod was \(state?.description ?? "not wanted any more")")
    }
  }

  func prove(
    _ sandbox: PodSandbox, until deadline: ContinuousClock.Instant
  ) async throws(PodAdmissionError) -> PodAdmissionOutcome {
    let (pod, namespace) = try await lookUp(sandbox, until: deadline)
    if case .outside(let reason) = settings.rules.verdict(pod, namespace: namespace.meta.labels) {
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
    default: throw .enrolment(enroller.trouble(of: uid) ?? .announcement(.notConnected))
    }
  }

  func removed(_ sandbox: PodSandbox) async {
    let path = sandbox.networkNamespace.map(pathHere)
    guard let uid = view.owner(path: path, containerID: sandbox.containerID) else { return }
    view.release(uid)
    update()
    _ = loop.schedule(after: timing.release) { [weak self] in
      self?.view.endRelease(uid)
      self?.scheduleUpdate()
    }
  }

  // MARK: Who it is

  /// The pod and its namespace. What the watch has shown serves, if it is that very pod and in the mesh; else the API
  /// server is asked, since the runtime is often faster than the watch.
  ///
  /// That labels do not ask for the mesh is never said by the watch alone: it may have stalled before the label came. An
  /// API server that does not answer then means that the pod does not start, unless the operator chose otherwise.
  private func lookUp(
    _ sandbox: PodSandbox, until deadline: ContinuousClock.Instant
  ) async throws(PodAdmissionError) -> (Pod, Namespace) {
    guard view.isComplete else { throw .starting }
    let reference = ObjectReference(namespace: sandbox.namespace, name: sandbox.name)
    let known = known(reference, sandbox)
    if let known, !settings.rules.verdict(known.0, namespace: known.1.meta.labels).mayChangeWithLabels { return known }
    do throws(KubernetesError) {
      let pod = try await client.get(Pod.self, Pod.path(reference), within: left(deadline))
      guard sandbox.uid == nil || sandbox.uid == pod.meta.uid else {
        throw .refused(
          request: "GET \(Pod.path(reference))", status: 404, reason: "NotFound", message: "its UID is another one")
      }
      // After the pod, so that no label it could have been made under is missed.
      let namespace = try await client.get(
        Namespace.self, Namespace.path(sandbox.namespace), within: left(deadline))
      return (pod, namespace)
    } catch {
      if error.isNotFound { throw .unknownPod("\(reference)", uid: sandbox.uid) }
      if let known, settings.trustsWatch, error.isNoAnswer { return known }
      throw .lookup(.init(error))
    }
  }

  /// What the watches have shown of that very pod.
  private func known(_ reference: ObjectReference, _ sandbox: PodSandbox) -> (Pod, Namespace)? {
    guard let pod = view.pods(named: reference).first(where: { isThat($0, sandbox) }),
      let namespace = view.namespace(reference.namespace)
    else { return nil }
    return (pod, namespace)
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
