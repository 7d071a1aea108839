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
  private let readinessChanged: (Bool) -> Void
  private var proxies: [ProxyID: WorkloadInfo] = [:]
  private var answer: ((InstructionAnswer) -> Void)?
  private var draining = 0
  private var whenDrained: (() -> Void)?

  init(
    loop: EventLoop, workers: [WorkerHandle], configuration: ZtunnelConfiguration, logger: Logger,
    metrics: ZtunnelMetrics, shared: SharedPods, readiness: ReadinessState, readinessChanged: @escaping (Bool) -> Void
  ) {
    self.loop = loop
    self.workers = workers
    self.configuration = configuration
    self.logger = logger
    self.metrics = metrics
    self.shared = shared
    self.readiness = readiness
    self.readinessChanged = readinessChanged
  }

  /// Pods served now, for the status line.
  var podCount: Int { manager.runningCount }

  // MARK: The node agent

  func connected() {
    logger.info("connected to the node agent", metadata: ["socket": "\(configuration.zdsSocketPath)"])
    feed(.connected)
  }

  func disconnected(_ error: ZDSError) {
    if error != .stopped {
      logger.warning("lost the node agent; pods go on being served", metadata: ["error": "\(error)"])
    }
    feed(.disconnected)
  }

  func dialFailed(_ error: ZDSError, retryIn delay: Duration) {
    logger.info("the node agent cannot be reached yet", metadata: ["error": "\(error)", "retry_in": "\(delay)"])
  }

  func follow(_ instruction: WorkloadInstruction<NetworkNamespace>) async -> InstructionAnswer {
    await withUnsafeContinuation { continuation in
      answer = { continuation.resume(returning: $0) }
      feed(.instruction(instruction))
    }
  }

  /// Stops every pod gracefully. Suspends until the last connection is gone or its deadline has passed.
  func shutDown() async {
    feed(.shutDown)
    guard draining > 0 else { return }
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
      whenDrained = { continuation.resume() }
    }
  }

  // MARK: Actions

  private func feed(_ input: WorkloadManager<NetworkNamespace>.Input) {
    perform(manager.receive(input))
    publish()
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
  }

  private func perform(_ actions: [WorkloadManager<NetworkNamespace>.Action]) {
    var lettingGo: [ProxyID] = []
    for action in actions {
      switch action {
      case .start(let start): loop.spawn { [self] in await self.start(start) }
      case .drain(let id, let mode):
        // Counted here, not in the task: whoever waits for all drains asks before the task has begun.
        draining += 1
        if mode == .immediate { lettingGo.append(id) } else { loop.spawn { [self] in await drain(id, mode) } }
      case .answer(let answer):
        let resume = self.answer
        self.answer = nil
        let cut = lettingGo
        lettingGo = []
        // What is acknowledged is done: the agent goes on to remove the rules, without which no reset would arrive.
        loop.spawn { [self] in
          for id in cut { await drain(id, .immediate) }
          resume?(answer)
        }
      case .armRetryTimer:
        _ = loop.schedule(after: WorkloadManager<NetworkNamespace>.retryInterval) { [weak self] in
          guard let self else { return }
          feed(.retryTimerFired)
        }
      case .readiness(let ready): readinessChanged(ready)
      }
    }
    for id in lettingGo { loop.spawn { [self] in await drain(id, .immediate) } }
  }

  private func start(_ start: ProxyStart<NetworkNamespace>) async {
    let details: Logger.Metadata = [
      "workload": "\(start.info)", "uid": "\(start.id.uid)", "netns": "\(start.namespace.identity)",
    ]
    let sockets: PodSockets
    do throws(PodListenerError) {
      sockets = try PodListeners.open(in: start.namespace, configuration, logger)
    } catch {
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
        for worker in workers { await worker.run { await $0.drain(pod.id, .immediate) } }
        feed(.startFailed(start.id, reason: failure.description))
        return
      }
    }
    proxies[start.id] = start.info
    metrics.proxiesStarted.add()
    logger.info("pod is served", metadata: details)
    feed(.startSucceeded(start.id))
  }

  private func drain(_ id: ProxyID, _ mode: DrainMode) async {
    let info = proxies.removeValue(forKey: id)
    await withTaskGroup(of: Void.self) { group in
      for worker in workers {
        group.addTask { await worker.run { await $0.drain(id, mode) } }
      }
    }
    logger.info(
      "pod is no longer served",
      metadata: ["workload": "\(info?.description ?? "")", "uid": "\(id.uid)", "mode": "\(mode)"])
    metrics.proxiesStopped.add()
    draining -= 1
    if draining == 0 {
      whenDrained?()
      whenDrained = nil
    }
  }
}
