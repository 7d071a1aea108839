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
  let settings: KubernetesSettings
  let client: APIClient
  let enroller: Enroller
  let loop: EventLoop
  let logger: Logger
  var view: ClusterView
  private let memory: RememberedFiles
  private let report: ([DesiredWorkload]) -> Void
  private let status: PodStatusPublisher
  private let events: PodEventRecorder
  private var repair: PodRepair?
  private var podWatcher: ResourceWatcher<Pod>?
  private var namespaceWatcher: ResourceWatcher<Namespace>?
  private var trouble = WatchTrouble()
  private var isUpdateScheduled = false
  private var isStopped = false

  /// How often pods were looked at because something about them changed (`nodeagent_reconcile_events_total`).
  private(set) var reconciled = ReconcileCounts()

  /// `report` gets the complete list of what this node's agent has to do with, on the loop; never before both lists of
  /// the API server were read. `stateDirectory` must not outlive a reboot, which ends all namespaces.
  init(
    _ settings: KubernetesSettings, enroller: Enroller, stateDirectory: String, logger: Logger, on loop: EventLoop,
    report: @escaping ([DesiredWorkload]) -> Void
  ) {
    self.settings = settings
    self.enroller = enroller
    self.logger = logger
    self.loop = loop
    self.report = report
    memory = RememberedFiles(directory: "\(stateDirectory)/pods")
    view = ClusterView(rules: settings.rules, touched: Set(memory.names()))
    client = APIClient(settings.access, loop: loop, buffers: WorkBuffers())
    status = PodStatusPublisher(client, logger: logger)
    events = PodEventRecorder(client, nodeName: settings.nodeName, logger: logger)
    repair = settings.repair.map { PodRepair($0, client: client, events: events, logger: logger) }
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
  }

  func stop() {
    isStopped = true
    podWatcher?.stop()
    namespaceWatcher?.stop()
    client.close()
  }

  /// The watches are never behind by more than what is on its way; what follows from them is handed on again.
  func reread() { scheduleUpdate() }

  // MARK: Changes

  private func received(_ change: ObjectChange<Pod>) {
    recovered(Pod.kind)
    reconciled.count(change)
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
    guard view.isComplete, !isStopped else { return }
    let workloads = view.workloads
    for workload in workloads where workload.inMesh && !view.touched.contains(workload.uid.text) {
      // Before anything is written inside: should the agent end in between, the next one knows where to look.
      memory.store([], as: workload.uid.text)
      view.touch(workload.uid.text)
    }
    report(workloads)
    let uids = Set(view.pods.values.map(\.meta.uid))
    for gone in view.touched.subtracting(uids) where enroller.state(of: gone) == nil { untouch(gone) }
    status.keepOnly(uids)
    events.keepOnly(uids)
    for pod in view.pods.values { publish(pod) }
  }

  // MARK: How far pods are

  private func became(_ state: EnrolmentState?, _ uid: String) {
    if state == nil || state == .outside { untouch(uid) }
    guard let pod = view.pod(uid) else { return }
    publish(pod)
    if case .failed(let error, _) = state { events.warn(pod, reason: "AmbientEnrolmentFailed", "\(error)") }
  }

  private func untouch(_ uid: String) {
    guard view.touched.contains(uid) else { return }
    view.untouch(uid)
    memory.remove(uid)
  }

  /// Has the annotation say what is so. It is for others to read: nothing in here goes by it.
  private func publish(_ pod: Pod) {
    guard view.isComplete, let verdict = view.verdict(pod) else { return }
    let state = enroller.state(of: pod.meta.uid)
    switch (verdict, state) {
    case (.inMesh, .announced): status.publish("enabled", on: pod)
    case (.inMesh, .waitingForZtunnel), (.inMesh, .failed(.announcement, _)): status.publish("pending", on: pod)
    // Not there yet, or not proven any more: what was said before is for its outcome to change.
    case (.inMesh, _): break
    case (.outside, nil), (.outside, .outside): status.publish(nil, on: pod)
    // What is inside has still to go.
    case (.outside, _): break
    }
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

/// Events handled, by what they said of the pod.
struct ReconcileCounts: Equatable {
  var added = 0
  var updated = 0
  var deleted = 0

  mutating func count(_ change: ObjectChange<Pod>) {
    switch change {
    case .replaced(let pods, _): added += pods.count
    case .changed: updated += 1
    case .deleted: deleted += 1
    }
  }
}

extension Enroller {
  func state(of uid: String) -> EnrolmentState? { WorkloadUID(uid).flatMap { state(of: $0) } }
}
