import HTTP2
import Kubernetes
import Linux
import Logging
import Vocabulary
import ZDS

/// Knows which pods of this node belong to the mesh, and tells the cluster how far they are (enrollment.md §2-§5).
///
/// What it knows comes from two watches and from the CNI plugin; what is to be done is worked out anew from all of it
/// after each change, and handed on as one list. Nothing is done in here that one pod could delay for another. Belongs to
/// its event loop.
final class KubernetesSource: WorkloadSource {
  /// Times of waiting.
  struct Timing {
    /// After which a pod that only the plugin told of is asked for, again and again.
    var confirmation = Duration.seconds(60)
    /// After which a sandbox that replaces a deleted one is looked for without being told.
    var release = Duration.seconds(30)
    /// How long a pod may wait for something before people are told.
    var patience = Duration.seconds(15)
  }

  let settings: KubernetesSettings
  let client: APIClient
  let enroller: Enroller
  let loop: EventLoop
  let logger: Logger
  let timing: Timing
  var view: ClusterView
  /// UIDs of pods that are to be confirmed.
  var confirming: Set<String> = []
  private var memory: PodMemory
  private let report: ([DesiredWorkload], Completeness) -> Void
  private let status: PodStatusPublisher
  private let events: PodEventRecorder
  private var repair: PodRepair?
  private var podWatcher: ResourceWatcher<Pod>?
  private var namespaceWatcher: ResourceWatcher<Namespace>?
  private var trouble = WatchTrouble()
  /// UIDs of pods that wait, and about which people are told if that lasts.
  private var waiting: Set<String> = []
  private var isUpdateScheduled = false
  private var isStopped = false
  private var isWithdrawing = false

  /// `report` gets the list of what this node's agent has to do with, on the loop: complete, once both lists of the API
  /// server were read; before, what an earlier run of the agent remembered, if it did. `stateDirectory` must not outlive a
  /// reboot, which ends all namespaces.
  init(
    _ settings: KubernetesSettings, enroller: Enroller, stateDirectory: String, timing: Timing = .init(),
    logger: Logger, on loop: EventLoop, report: @escaping ([DesiredWorkload], Completeness) -> Void
  ) {
    self.settings = settings
    self.timing = timing
    self.enroller = enroller
    self.logger = logger
    self.loop = loop
    self.report = report
    memory = PodMemory(RememberedFiles(directory: "\(stateDirectory)/pods"))
    view = ClusterView(rules: settings.rules, touched: memory.touched, remembered: memory.pods)
    client = APIClient(settings.access, loop: loop, buffers: WorkBuffers())
    status = PodStatusPublisher(client, logger: logger)
    events = PodEventRecorder(client, nodeName: settings.nodeName, logger: logger)
    repair = settings.repair.map {
      PodRepair($0, client: client, events: events, metrics: enroller.metrics, logger: logger)
    }
  }

  func start() {
    logger.info(
      "reading the cluster", metadata: ["server": "\(settings.access.server)", "node": "\(settings.nodeName)"])
    enroller.onChange = { [weak self] uid, state in self?.became(state, uid.text) }
    let pods = ResourceWatcher<Pod>(client, fieldSelector: "spec.nodeName=\(settings.nodeName)") { [weak self] in
      self?.received($0)
    } report: { [weak self] in
      self?.failed($0, watching: Pod.kind)
    }
    let namespaces = ResourceWatcher<Namespace>(client) { [weak self] in
      self?.received($0)
    } report: { [weak self] in
      self?.failed($0, watching: Namespace.kind)
    }
    (podWatcher, namespaceWatcher) = (pods, namespaces)
    pods.start()
    namespaces.start()
    // Does not wait for the API server, which may be away for long.
    update()
  }

  func stop() {
    isStopped = true
    podWatcher?.stop()
    namespaceWatcher?.stop()
    client.close()
  }

  /// Takes back what only this agent says about pods. Returns when that is done or was refused, or at the limit.
  func withdraw(within limit: Duration) async {
    guard view.isComplete else { return }
    let deadline = ContinuousClock.now + limit
    isWithdrawing = true
    for pod in view.pods.values {
      status.publish(on: pod) { PodStatus(redirection: $0.redirection) }
    }
    while !status.isIdle, ContinuousClock.now < deadline { await loop.sleep(for: .milliseconds(20)) }
  }

  /// The watches are never behind by more than what is on its way; what follows from them is handed on again.
  func reread() { scheduleUpdate() }

  // MARK: Changes

  private func received(_ change: ObjectChange<Pod>) {
    recovered(Pod.kind)
    view.receive(change)
    switch change {
    case .changed(let pod): repair?.consider(pod)
    case .replaced(let pods, _): for pod in pods { repair?.consider(pod) }
    case .deleted: break
    }
    scheduleUpdate()
  }

  private func received(_ change: ObjectChange<Namespace>) {
    recovered(Namespace.kind)
    view.receive(change)
    scheduleUpdate()
  }

  /// Events come in bursts; one list serves them all.
  func scheduleUpdate() {
    guard !isUpdateScheduled else { return }
    isUpdateScheduled = true
    loop.afterEvents { [weak self] in
      guard let self else { return }
      isUpdateScheduled = false
      update()
    }
  }

  /// Hands on what is wanted now.
  func update() {
    guard view.isUsable, !isStopped else { return }
    let workloads = view.workloads
    guard view.isComplete else { return report(workloads, .remembered) }
    // Before anything is written inside: should the agent end in between, the next one knows where to look.
    for workload in workloads { remember(workload) }
    report(workloads, .complete)
    let uids = Set(view.pods.keys)
    for gone in view.touched.subtracting(uids) where enroller.state(of: gone) == nil { untouch(gone) }
    status.keepOnly(uids)
    events.keepOnly(uids)
    for pod in view.pods.values { publish(pod) }
  }

  // MARK: How far pods are

  private func became(_ state: EnrolmentState?, _ uid: String) {
    guard view.isComplete else { return }
    if state == nil || state == .outside { untouch(uid) }
    guard let pod = view.pods[uid] else { return }
    publish(pod)
    switch state {
    // Which namespace it is, is known now.
    case .announced:
      enroller.wanted(uid).map(remember)
      if lacksCertificate(uid) { tellIfLasting(uid) }
    case .failed(let error, _): events.warn(pod, reason: "AmbientEnrolmentFailed", "\(error)")
    case .waitingForNamespace, .waitingForZtunnel: tellIfLasting(uid)
    default: break
    }
  }

  /// Every pod waits for a moment; for longer, people should know.
  private func tellIfLasting(_ uid: String) {
    guard waiting.insert(uid).inserted else { return }
    _ = loop.schedule(after: timing.patience) { [weak self] in
      guard let self, waiting.remove(uid) != nil, !isStopped, let pod = view.pods[uid] else { return }
      switch enroller.state(of: uid) {
      case .waitingForNamespace, .waitingForZtunnel:
        let reason = enroller.trouble(of: uid).map { "\($0)" } ?? "no reason known"
        events.warn(pod, reason: "AmbientWaiting", "not served by the mesh yet: \(reason)")
      case .announced where lacksCertificate(uid):
        events.warn(
          pod, reason: "AmbientNoCertificate", "ztunnel has no certificate for it: its connections are refused")
      default: return
      }
      // As long as it waits, it is said now and then.
      tellIfLasting(uid)
    }
  }

  private func lacksCertificate(_ uid: String) -> Bool {
    WorkloadUID(uid).flatMap { enroller.proofs[$0]?.hasIdentity } == false
  }

  private func remember(_ workload: DesiredWorkload) {
    let uid = workload.uid.text
    if workload.inMesh {
      memory.remember(view.memory(of: workload, in: enroller.proofs[workload.uid]?.namespace))
      FaultPoint.reached("remembered", with: workload.info.name)
      view.touch(uid)
    } else if view.touched.contains(uid) {
      memory.rememberTouched(uid)
    }
  }

  private func untouch(_ uid: String) {
    guard view.touched.contains(uid) else { return }
    view.untouch(uid)
    memory.forget(uid)
  }

  /// Has the annotations say what is so. They are for others to read: nothing in here goes by them.
  private func publish(_ pod: Pod) {
    guard view.isComplete, !isWithdrawing, let verdict = view.verdict(pod) else { return }
    let uid = pod.meta.uid
    let proof = WorkloadUID(uid).flatMap { enroller.proofs[$0]?.code }
    status.publish(on: pod) { PodStatus.of(verdict, enroller.state(of: uid), proof, after: $0) }
    for (key, refusal) in CaptureAnnotations.of(pod.meta.annotations).refused where verdict == .inMesh {
      events.warn(pod, reason: "AmbientAnnotationIgnored", "annotation \(key) is ignored: \(refusal)")
    }
  }

  // MARK: Trouble

  private func failed(_ error: KubernetesError, watching kind: String) {
    // An object that cannot be read is no trouble with the server.
    if case .malformed = error {
      logger.warning("\(error)")
      return
    }
    let isNew = trouble.note(error, kind)
    logger.log(level: isNew ? .warning : .debug, "\(error)", metadata: ["watching": "\(kind)s"])
  }

  private func recovered(_ kind: String) {
    if trouble.end(kind) { logger.notice("the API server answers again", metadata: ["watching": "\(kind)s"]) }
  }
}

/// What of the watches' troubles was told already: a server that is away is told once, not once a try.
struct WatchTrouble {
  private var told: [String: Set<String>] = [:]

  /// Different troubles with one kind that are told before there is good news.
  private static let most = 20

  /// True when this was not told since the last good news.
  mutating func note(_ error: KubernetesError, _ kind: String) -> Bool {
    guard (told[kind]?.count ?? 0) < Self.most else { return false }
    return told[kind, default: []].insert("\(error)").inserted
  }

  /// True when there was trouble.
  mutating func end(_ kind: String) -> Bool {
    told.removeValue(forKey: kind) != nil
  }
}

extension Enroller {
  func state(of uid: String) -> EnrolmentState? { WorkloadUID(uid).flatMap { state(of: $0) } }

  func wanted(_ uid: String) -> DesiredWorkload? { WorkloadUID(uid).flatMap { wanted($0) } }

  func trouble(of uid: String) -> EnrolmentError? { WorkloadUID(uid).flatMap { trouble(of: $0) } }
}
