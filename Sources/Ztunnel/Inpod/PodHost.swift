import Linux
import Logging
import Vocabulary
import ZDS

/// Runs the pods that the node agent names: carries out what ``WorkloadManager`` decides. Belongs to the control loop.
final class PodHost: ZDSClientHandler {
  private var manager = WorkloadManager<NetworkNamespace>()
  private let loop: EventLoop
  private let workers: [WorkerHandle]
  private let configuration: ZtunnelConfiguration
  private let logger: Logger
  private let metrics: ZtunnelMetrics
  private let shared: SharedPods
  private let readiness: ReadinessState
  private let conditions: NodeConditions
  private let status: ServiceStatus
  private let escrow: SocketEscrow
  private let hasCertificate: ((WorkloadInfo) -> Bool)?
  private var served: [ProxyID: ServedPod] = [:]
  /// Those whose sockets the node agent keeps too, as long as it is there.
  private var handedOver: Set<WorkloadUID> = []
  private var namesKept = false
  /// Another ztunnel serves.
  private(set) var isResting = false
  /// Called when it begins, or ceases, to be the one that serves.
  var dutyChanged: ((Handover.Duty) -> Void)?
  private var answer: ((InstructionAnswer) -> Void)?
  private var deadline = ContinuousClock.now
  private var isCut = false
  private var draining = 0
  /// Called when the last pod of a service account is no longer served.
  var lastOfAccountLeft: ((WorkloadInfo) -> Void)?
  private var whenDrained: (() -> Void)?

  private struct ServedPod {
    let info: WorkloadInfo
    let namespace: NamespaceIdentity
    let sockets: PodSockets
  }

  /// Time after which sockets are let go whose pod the agent may still name.
  private static let claimLimit = Duration.seconds(60)

  /// `hasCertificate` tells whether one is held for a pod's identity; nil where certificates are only made when they are
  /// needed.
  init(
    loop: EventLoop, workers: [WorkerHandle], configuration: ZtunnelConfiguration, escrow: SocketEscrow,
    logger: Logger, metrics: ZtunnelMetrics, shared: SharedPods, readiness: ReadinessState,
    hasCertificate: ((WorkloadInfo) -> Bool)? = nil, conditions: NodeConditions, status: ServiceStatus
  ) {
    self.escrow = escrow
    self.hasCertificate = hasCertificate
    self.loop = loop
    self.workers = workers
    self.configuration = configuration
    self.logger = logger
    self.metrics = metrics
    self.shared = shared
    self.readiness = readiness
    self.conditions = conditions
    self.status = status
  }

  /// Pods served now, for the status line.
  var podCount: Int { manager.runningCount }

  // MARK: The node agent

  func connected() {
    logger.info("connected to the node agent", metadata: ["socket": "\(configuration.zdsSocketPath)"])
    conditions.setAgentConnected(true)
    feed(.connected)
  }

  func disconnected(_ error: ZDSError) {
    if error != .stopped {
      logger.warning("lost the node agent; pods go on being served", metadata: ["error": "\(error)"])
      // What it kept may be gone with it. It gets everything anew with its next snapshot.
      handedOver = []
    }
    namesKept = false
    conditions.setAgentConnected(false)
    feed(.disconnected)
  }

  func dialFailed(_ error: ZDSError, retryIn delay: Duration) {
    logger.info("the node agent cannot be reached yet", metadata: ["error": "\(error)", "retry_in": "\(delay)"])
  }

  func follow(
    _ instruction: WorkloadInstruction<NetworkNamespace>, with sockets: [SharedDescriptor]
  ) async -> InstructionAnswer {
    if case .add(let uid, _, let namespace) = instruction, !isServed(uid, in: namespace.identity) {
      for socket in sockets { escrow.deposit(socket) }
    }
    if case .keep = instruction { namesKept = true }
    let answer = await withUnsafeContinuation { continuation in
      self.answer = { continuation.resume(returning: $0) }
      feed(.instruction(instruction))
    }
    if case .snapshotSent = instruction, answer == .acknowledge { discardUnclaimed() }
    return answer
  }

  func sockets(of uid: WorkloadUID) -> [SharedDescriptor] {
    manager.proxy(of: uid).flatMap { served[$0] }?.sockets.descriptors ?? []
  }

  func handedOver(_ uid: WorkloadUID) { handedOver.insert(uid) }

  func holdsIdentity(of uid: WorkloadUID) -> Bool? {
    guard let hasCertificate, let workload = manager.workloads[uid] else { return nil }
    return hasCertificate(workload.info)
  }

  func take(_ duty: Handover.Duty) async {
    isResting = duty == .rest
    logger.info(
      isResting
        ? "another ztunnel has taken over: new connections are left to it, those that are open run on"
        : "the other ztunnel is gone: new connections are taken again")
    let rests = isResting
    for worker in workers { await worker.run { $0.rest(rests) } }
    dutyChanged?(duty)
  }

  /// Leaves connections that can be moved to the ztunnel that serves now, where there is one.
  func moveConnections() async {
    guard isResting else { return }
    // That one has what the agent keeps, not what the service manager does.
    let kept = Set(served.keys.filter { handedOver.contains($0.uid) })
    for worker in workers { await worker.run { $0.moveConnections(of: kept) } }
  }

  private func isServed(_ uid: WorkloadUID, in namespace: NamespaceIdentity) -> Bool {
    manager.proxy(of: uid).flatMap { served[$0] }?.namespace == namespace
  }

  /// Sockets of pods that the complete snapshot does not name belong to pods that are gone.
  private func discardUnclaimed() {
    guard namesKept else { return escrow.discard(except: manager.namespaces) }
    // Some pods are known by their uid alone until the agent has found their namespaces.
    _ = loop.schedule(after: Self.claimLimit) { [weak self] in
      guard let self else { return }
      escrow.discard(except: manager.namespaces)
    }
  }

  /// Tells the service manager everything once more.
  func tellServiceManagerAgain() {
    for pod in served.values { escrow.storeAgain(pod.sockets, of: pod.namespace) }
    status.tellAgain()
  }

  // MARK: The end

  private func isKept(_ uid: WorkloadUID, _ pod: ServedPod) -> Bool {
    handedOver.contains(uid) || escrow.isStored(pod.namespace)
  }

  /// Somebody keeps sockets for a successor that is not there yet. Where nobody keeps any, it is not known whether there
  /// is one, and new connections are not for a process that leaves (lifecycle.md §6).
  var hasSuccessorToCome: Bool { !isResting && served.contains { isKept($0.key.uid, $0.value) } }

  /// Goes on serving new connections as long as others run, `end` at most. Returns at once where somebody else serves.
  ///
  /// Where the successor starts only after this process has gone, new connections would otherwise wait for as long as the
  /// oldest one runs: longer than clients and peers have patience.
  func serveOn(until end: ContinuousClock.Instant) async {
    while hasSuccessorToCome, !isCut, .now < end {
      // Sums of all pods: as long as there is one whose sockets nobody keeps, its connections count.
      let isMoving = served.allSatisfy { isKept($0.key.uid, $0.value) }
      if await load().isNothing(moving: isMoving) { return }
      await loop.sleep(for: min(Self.look, end - .now))
    }
  }

  /// Leaves what applications open to the next process. Tunnels are still accepted: what was taken just before may lead to
  /// another pod of this process, and would wait there for a process that comes only after this one's end.
  func restForApplications() async {
    for worker in workers { await worker.run { $0.restForApplications() } }
  }

  /// Time between two looks whether anything still runs.
  private static let look = Duration.milliseconds(50)

  /// Stops every pod gracefully. Suspends until the last connection is gone or `deadline` has passed.
  func shutDown(until deadline: ContinuousClock.Instant) async {
    self.deadline = deadline
    feed(.shutDown)
    guard draining > 0 else { return }
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
      whenDrained = { continuation.resume() }
    }
  }

  /// Has everything that is being drained cut now.
  func cut() {
    isCut = true
    for worker in workers { worker.post { $0.cut() } }
  }

  /// What is under way in all pods.
  func load() async -> DrainLoad {
    var load = DrainLoad()
    for worker in workers { load += await worker.run { $0.drainLoad } }
    return load
  }

  /// Says every five seconds, and once a second in the status, what the end still waits for, until there are no pods.
  func reportEnd(at deadline: ContinuousClock.Instant, turn: Int = 0) {
    loop.spawn { [self] in
      let load = await load()
      guard draining > 0 || !served.isEmpty else { return }
      let left = max(0, (deadline - .now).components.seconds)
      ServiceNotifier.status("draining: \(load.connections) connections are open, at most \(left)s more")
      if turn % 5 == 1 {
        logger.info(
          "draining",
          metadata: [
            "connections": "\(load.connections)", "inbound_tunnels": "\(load.tunnels)",
            "pods": "\(draining + served.count)", "deadline_in": "\(left)s",
          ])
      }
      _ = loop.schedule(after: .seconds(1)) { [weak self] in self?.reportEnd(at: deadline, turn: turn + 1) }
    }
  }

  // MARK: Actions

  private func feed(_ input: WorkloadManager<NetworkNamespace>.Input) {
    let actions = manager.receive(input)
    publish()
    perform(actions)
  }

  /// Tells those who only look.
  private func publish() {
    metrics.activeProxies.set(Int64(manager.runningCount))
    metrics.pendingProxies.set(Int64(manager.pendingCount))
    let workloads = manager.workloads
    shared.set(workloads.map { ConfigDump.Pod(uid: $0.key, info: $0.value.info, isUp: $0.value.state == .up) })
    if manager.hasSnapshot { readiness.done(ReadinessState.pods) }
    readiness.setTroubled(
      manager.pendingCount == 0 ? [] : workloads.values.filter { $0.state == .pending }.map { "\($0.info)" }.sorted())
    conditions.setPodsNotStored(escrow.withoutRoom.count)
    status.update()
  }

  private func perform(_ actions: [WorkloadManager<NetworkNamespace>.Action]) {
    var lettingGo: [(ProxyID, DrainMode)] = []
    for action in actions {
      switch action {
      case .start(let start):
        // In the place of another in the same namespace: the sockets, and what waits in them, stay.
        for pod in served.values where pod.namespace == start.namespace.identity {
          for socket in pod.sockets.descriptors { escrow.deposit(socket) }
        }
        loop.spawn { [self] in await self.start(start) }
      case .drain(let id, let mode):
        // Counted here, not in the task: whoever waits for all drains asks before the task has begun.
        draining += 1
        if mode == .graceful { loop.spawn { [self] in await drain(id, mode) } } else { lettingGo.append((id, mode)) }
      case .answer(let answer):
        let resume = self.answer
        self.answer = nil
        let cut = lettingGo
        lettingGo = []
        // What is acknowledged is done: the agent goes on to remove the rules, without which no reset would arrive.
        loop.spawn { [self] in
          await drain(cut)
          resume?(answer)
        }
      case .armRetryTimer:
        _ = loop.schedule(after: WorkloadManager<NetworkNamespace>.retryInterval) { [weak self] in
          guard let self else { return }
          feed(.retryTimerFired)
        }
      // What the status says of it is told when it changes.
      case .readiness: break
      }
    }
    if !lettingGo.isEmpty {
      let cut = lettingGo
      loop.spawn { [self] in await drain(cut) }
    }
  }

  private func start(_ start: ProxyStart<NetworkNamespace>) async {
    let details: Logger.Metadata = [
      "workload": "\(start.info)", "uid": "\(start.id.uid)", "netns": "\(start.namespace.identity)",
    ]
    let sockets: PodSockets
    let left = escrow.take(start.namespace.identity)
    var unused = left
    do throws(PodListenerError) {
      sockets = try PodListeners.open(in: start.namespace, adopting: &unused, configuration, logger)
    } catch {
      for socket in left { escrow.deposit(socket.descriptor) }
      logger.error(
        "pod cannot be served", metadata: details.merging(["error": "\(error)"]) { first, _ in first })
      feed(.startFailed(start.id, reason: error.description))
      return
    }
    let pod = PodProxy(id: start.id, info: start.info, namespace: start.namespace)
    for worker in workers {
      let failure = await worker.run { worker -> SystemError? in
        do throws(SystemError) { try worker.adopt(pod, sockets) } catch { return error }
        return nil
      }
      if let failure {
        for worker in workers { await worker.run { await $0.drain(pod.id, .immediate, leavingBacklog: true) } }
        for socket in sockets.descriptors { escrow.deposit(socket) }
        feed(.startFailed(start.id, reason: failure.description))
        return
      }
    }
    metrics.proxiesStarted.add()
    served[start.id] = ServedPod(info: start.info, namespace: start.namespace.identity, sockets: sockets)
    escrow.store(sockets, of: start.namespace.identity, replacing: !unused.isEmpty)
    let adopted = "\(left.count - unused.count) of \(sockets.descriptors.count)"
    logger.info(
      "pod is served", metadata: details.merging(left.isEmpty ? [:] : ["adopted": "\(adopted)"]) { first, _ in first })
    feed(.startSucceeded(start.id))
    guard served[start.id] != nil else { return }
    for worker in workers { worker.post { $0.startReceiving(for: start.id) } }
  }

  private func drain(_ proxies: [(ProxyID, DrainMode)]) async {
    // Each takes up to a second: together they take no longer. What they share is this loop's.
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
      var left = proxies.count
      guard left > 0 else { return continuation.resume() }
      for (id, mode) in proxies {
        loop.spawn { [self] in
          await drain(id, mode)
          left -= 1
          if left == 0 { continuation.resume() }
        }
      }
    }
  }

  private func drain(_ id: ProxyID, _ mode: DrainMode) async {
    let pod = served.removeValue(forKey: id)
    var isKept = false
    if let pod, mode == .graceful {
      isKept = self.isKept(id.uid, pod)
    } else if let pod, !manager.namespaces.contains(pod.namespace) {
      escrow.forget(pod.namespace)
    }
    let (leavesBacklog, end) = (isKept, deadline)
    await withTaskGroup(of: Void.self) { group in
      for worker in workers {
        group.addTask { await worker.run { await $0.drain(id, mode, until: end, leavingBacklog: leavesBacklog) } }
      }
    }
    conditions.setPodsNotStored(escrow.withoutRoom.count)
    logger.info(
      "pod is no longer served",
      metadata: ["workload": "\(pod?.info.description ?? "")", "uid": "\(id.uid)", "mode": "\(mode)"])
    metrics.proxiesStopped.add()
    if let info = pod?.info,
      !served.values.contains(where: {
        $0.info.namespace == info.namespace && $0.info.serviceAccount == info.serviceAccount
      })
    {
      lastOfAccountLeft?(info)
    }
    draining -= 1
    if draining == 0 {
      whenDrained?()
      whenDrained = nil
    }
  }
}
