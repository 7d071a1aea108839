import Glibc
import Identity
import Linux
import Logging
import Mesh
import TLS
import Telemetry
import ZDS

/// The parts of the running proxy and how they hang together (lifecycle.md §2, §6). Belongs to the control loop.
final class Daemon {
  private let configuration: ZtunnelConfiguration
  private let certificates: CertificateStore
  private let control: EventLoop
  private let logger = Logger(label: "ztunnel::app")
  private let workers: [WorkerHandle]
  private let mesh: MeshState
  private let meshFile: MeshFileSource?
  private let publisher: MeshPublisher
  private let controlPlane: ControlPlane?
  private let vault: SnapshotVault?
  private let keeper: CertificateKeeper?
  private let revocations: RevocationSource?
  private var keeping: JournalKeeper?
  private var isServing = false
  private let status: ServiceStatus
  private let pods: PodHost
  private let client: ZDSClient
  private let metrics: ZtunnelMetrics
  private let admin: AdminServer
  private let readinessState: ReadinessState
  private let reloading: Reloading
  private let watchdog: Watchdog?
  private let memoryReturn: MemoryReturn
  private let upgrade: InPlaceUpgrade
  private var signals: SignalSource?
  private var end = ProcessEnd()

  /// Reads the mesh and starts the workers; nothing is served yet. Throws a `CodedError`.
  init(
    configuration: ZtunnelConfiguration, certificates: CertificateStore, tls: TLSSettings,
    controlPlane: ControlPlane?, log: LogPipeline, socketPath: UnixSocketPath, inherited: InheritedDescriptors,
    control: EventLoop
  ) throws {
    self.configuration = configuration
    self.certificates = certificates
    self.control = control
    self.controlPlane = controlPlane
    let settings = MeshSettings(
      network: configuration.network, localNode: configuration.nodeName,
      isSOCKS5Enabled: configuration.socks5Enabled,
      reachesApplicationTunnelsOverLoopback: configuration.localhostApplicationTunnel,
      isOnDemand: configuration.discovery?.isOnDemand ?? false)
    let metrics = ZtunnelMetrics(version: configuration.istioVersion)
    metrics.register(certificates: certificates, log: log)
    if let state = tls.revocations { metrics.register(state) }
    if configuration.discovery != nil, let controlPlane { metrics.register { controlPlane.statistics } }
    self.metrics = metrics
    let shared = SharedMesh(MeshSnapshot(settings: settings))
    metrics.register(shared)
    let publisher = MeshPublisher(
      certificates: configuration.nodeName == nil ? nil : certificates, logger: Logger(label: "ztunnel::state"),
      control: control, shared: shared)
    self.publisher = publisher
    let mesh = MeshState(settings: settings) { publisher.publish($0, $1) }
    self.mesh = mesh
    meshFile = try configuration.localMesh.map {
      try MeshFileSource($0, into: mesh, on: control, log: Logger(label: "ztunnel::state"))
    }
    let context = WorkerContext(
      configuration: configuration, certificates: certificates, revocations: tls.revocations,
      accessLog: log.accessLog, logger: Logger(label: "ztunnel::proxy"), levels: log.levels, metrics: metrics,
      demands: settings.isOnDemand ? controlPlane : nil)
    vault = try configuration.snapshot.map { try SnapshotVault($0) }
    keeper = vault.flatMap { vault in
      guard configuration.snapshot?.keepsCertificates == true, configuration.localCAPath == nil else {
        CertificateKeeper.forget(vault)
        return nil
      }
      return CertificateKeeper(vault, certificates, logger: Logger(label: "ztunnel::snapshot"))
    }
    let snapshot = mesh.snapshot
    shared.set(snapshot)
    workers = try (0..<configuration.workerThreads).map {
      try WorkerHandle(index: $0, context: context, mesh: snapshot)
    }
    context.balance.set(workers.map { WorkerBalance.Member($0, $0.burden) })
    publisher.workers = workers
    revocations = try Self.revocations(configuration, tls, workers, control)
    let staticMesh = Self.staticMesh(meshFile, settings, shared, hasControlPlane: configuration.discovery != nil)
    let conditions = NodeConditions()
    metrics.register(conditions)
    meshFile?.latestErrorChanged = { conditions.setMeshFileError($0.map { "\($0.summary)" }) }
    var pending: Set = [ReadinessState.proxy, ReadinessState.pods]
    if configuration.discovery != nil { pending.insert(ReadinessState.mesh) }
    let readinessState = ReadinessState(pending: pending)
    self.readinessState = readinessState
    let status = ServiceStatus(readinessState, conditions, logger: logger)
    self.status = status
    let sharedPods = SharedPods()
    pods = PodHost(
      loop: control, workers: workers, configuration: configuration,
      escrow: SocketEscrow(inherited.take(where: SocketEscrow.isName), logger: Logger(label: "ztunnel::inpod")),
      logger: Logger(label: "ztunnel::inpod"), metrics: metrics, shared: sharedPods, readiness: readinessState,
      hasCertificate: configuration.nodeName.map { _ in
        { [certificates] info in
          let workload = shared.snapshot.localWorkload(
            namespace: info.namespace, name: info.name, serviceAccount: info.serviceAccount)
          return workload.flatMap { certificates.current($0.identity) } != nil
        }
      },
      conditions: conditions, status: status)
    if configuration.nodeName == nil {
      // The mesh does not tell which workloads are here, so that their pods have to.
      pods.lastOfAccountLeft = { info in
        certificates.forget(namespace: info.namespace, serviceAccount: info.serviceAccount)
      }
    }
    client = ZDSClient(path: socketPath, on: control, handler: pods)
    reloading = Reloading(meshFile: meshFile, levels: log.levels, logger: logger)
    watchdog = Watchdog(workers, on: control, logger: logger)
    memoryReturn = MemoryReturn(workers, on: control)
    upgrade = InPlaceUpgrade(on: control, logger: logger)
    let request = AdminRequests()
    admin = try AdminServer(
      configuration,
      AdminSources(
        workers: workers, mesh: shared, staticMesh: staticMesh, pods: sharedPods, certificates: certificates,
        levels: log.levels,
        logWriter: log.writer, conditions: conditions, metrics: metrics, readiness: readinessState,
        proofs: EnrolmentProofs(path: configuration.statusSocketPath),
        upgrade: { () async throws(UpgradeError) in
          let outcome = await withUnsafeContinuation { continuation in
            control.spawn { continuation.resume(returning: await request.upgrade()) }
          }
          return try outcome.get()
        },
        shutDown: { control.spawn { request.quit?() } }))
    try admin.listen()
    request.quit = { [unowned self] in quit(because: "/quitquitquit") }
    request.replace = { [unowned self] () async throws(UpgradeError) in try await replace() }
    pods.dutyChanged = { [unowned self] duty in
      keeping?.rest(duty == .rest)
      switch duty {
      case .rest: upgrade.takenOver()
      case .accept: upgrade.takenBack()
      }
    }
  }

  /// What the admin server asks for; made before the daemon is complete, used on the control loop.
  private final class AdminRequests: @unchecked Sendable {
    // @unchecked: both are set before the loop runs, and read on the loop.
    var quit: (() -> Void)?
    var replace: (() async throws(UpgradeError) -> (process: Int32, connections: Int))?

    func upgrade() async -> Result<(process: Int32, connections: Int), UpgradeError> {
      guard let replace else { return .failure(.notServing) }
      do throws(UpgradeError) { return .success(try await replace()) } catch { return .failure(error) }
    }
  }

  /// The mesh of the local file alone, for those who only look; the mesh in force where nobody else describes it.
  private static func staticMesh(
    _ file: MeshFileSource?, _ settings: MeshSettings, _ inForce: SharedMesh, hasControlPlane: Bool
  ) -> SharedMesh? {
    guard let file else { return nil }
    guard hasControlPlane else { return inForce }
    func snapshot(_ document: MeshDocument) -> MeshSnapshot {
      MeshSnapshot(settings: settings).applying(document.changes()).snapshot
    }
    let mesh = SharedMesh(snapshot(file.document))
    file.documentChanged = { mesh.set(snapshot($0)) }
    return mesh
  }

  private static func revocations(
    _ configuration: ZtunnelConfiguration, _ tls: TLSSettings, _ workers: [WorkerHandle], _ control: EventLoop
  ) throws(TLSError) -> RevocationSource? {
    guard let path = configuration.revocationListPath, let state = tls.revocations else { return nil }
    return try RevocationSource(path, into: state, on: control, logger: Logger(label: "ztunnel::crl")) {
      for worker in workers { worker.post { $0.closeRevoked() } }
    }
  }

  /// Time the control plane has after a start to describe the mesh, before what is known from before it is served.
  private static let snapshotPatience = Duration.seconds(3)

  /// Starts to serve. On the control loop.
  func start() {
    do throws(SystemError) {
      signals = try SignalSource(ZtunnelProcess.signals, on: control) { [unowned self] in received(signal: $0) }
    } catch {
      logger.critical("signals cannot be taken", metadata: ["error": "\(error)"])
      control.stop()
      return
    }
    readinessState.done(ReadinessState.proxy)
    watchdog?.start()
    memoryReturn.start()
    InPlaceUpgrade.repeatForServiceManager(on: control) { [unowned self] in pods.tellServiceManagerAgain() }
    meshFile?.start()
    revocations?.start()
    keeper?.start()
    guard let discovery = configuration.discovery, let controlPlane else { return serve() }
    // Pods are served once the mesh is known: before that, policies would be missing (lifecycle.md §2).
    status.update()
    let journal = vault.map { MeshJournal($0, logger: Logger(label: "ztunnel::snapshot")) }
    let before = MeshRestoration(
      discovery, journal, limit: configuration.snapshot?.maximumAge ?? .zero, of: mesh.beginUpdate(), logger: logger)
    mesh.finish(before.update, before.update.delta)
    if let journal, let vault { keeping = JournalKeeper(journal, thread: vault.thread) }
    if let age = before.age {
      _ = control.schedule(after: Self.snapshotPatience) { [unowned self] in serveFromSnapshot(age) }
    }
    controlPlane.follow(
      discovery, before.subscription, keeping: keeping, on: control, logger: Logger(label: "ztunnel::xds"),
      begin: { [mesh] in mesh.beginUpdate() }, publish: { [unowned self] in await enforce($0, $1) },
      ready: { [unowned self] in received() })
  }

  /// Returns when every worker decides by the changed mesh: then it may be said that the changes are in force.
  private func enforce(_ update: MeshUpdate, _ delta: MeshDelta) async {
    mesh.finish(update, delta)
    for worker in workers { await worker.run { _ in } }
  }

  /// The control plane is away: what it said before the start is the best that is known, and its policies hold.
  private func serveFromSnapshot(_ age: Int64) {
    guard !isServing, !end.hasBegun else { return }
    logger.warning(
      "the control plane is away; the mesh as it was before the start is served until it is back",
      metadata: ["confirmed_seconds_ago": "\(age)", "workloads": "\(mesh.snapshot.workloadCount)"])
    serve()
  }

  /// The control plane has told everything once.
  private func received() {
    readinessState.done(ReadinessState.mesh)
    status.update()
    let snapshot = mesh.snapshot
    logger.info(
      "mesh received",
      metadata: [
        "workloads": "\(snapshot.workloadCount)", "services": "\(snapshot.serviceCount)",
        "policies": "\(snapshot.policyCount)",
      ])
    serve()
  }

  private func serve() {
    guard !end.hasBegun, !isServing else { return }
    isServing = true
    control.spawn { [client] in await client.run() }
  }

  /// Ends the workers' threads, after the control loop has ended: libssl is taken down as the process exits, and must
  /// not be in use then.
  func stopWorkers() {
    for worker in workers { worker.stop() }
  }

  /// Waits for what is being written for the next start, after the control plane's thread has ended: libcrypto is taken
  /// down too. A disk that does not answer is not waited for.
  func endSnapshots() { _ = vault?.thread.drain(within: .seconds(2)) }

  private func received(signal: CInt) {
    switch signal {
    case SIGHUP: reloading.perform()
    #if DEBUG
      case SIGUSR2:
        if FaultInjection.isEnabled, let worker = workers.first { FaultInjection.stall(worker) }
    #endif
    case SIGTERM: quit(because: Self.terminated)
    default: quit(because: "signal \(signal)")
    }
  }

  private static let terminated = "signal \(SIGTERM)"

  // MARK: The next one

  /// Has this process replaced, and returns when the next one serves.
  private func replace() async throws(UpgradeError) -> (process: Int32, connections: Int) {
    guard isServing, readinessState.isReady, !end.hasBegun, !pods.isResting else { throw .notServing }
    let process = try await upgrade.begin()
    await pods.moveConnections()
    let connections = await pods.load().connections
    let limit = configuration.upgradeDeadline
    logger.info(
      "replaced: open connections run on here until they end or the deadline",
      metadata: ["process": "\(process)", "connections": "\(connections)", "deadline": "\(limit)"])
    // After the answer to who asked, which waits for this to return.
    control.spawn { [self] in
      await admin.leavePorts()
      await endWithConnections(until: .now + limit)
    }
    return (process, connections)
  }

  /// Time between two looks whether anything still runs in a process that was replaced.
  private static let look = Duration.milliseconds(200)

  private func endWithConnections(until deadline: ContinuousClock.Instant) async {
    while !end.hasBegun {
      // While the next one is not there, this one serves.
      if pods.isResting {
        await pods.moveConnections()
        if await pods.load().isNothing(moving: false) {
          return quit(because: "replaced, and nothing runs here any more")
        }
        if deadline <= .now { return quit(because: "replaced, and AMBIENT_UPGRADE_DEADLINE has passed") }
      }
      await control.sleep(for: Self.look)
    }
  }

  /// When the service manager ends the others of a service because its main process has died, the agent may be about to say
  /// that this process is the one to serve.
  private func awaitDuty(within limit: Duration) async {
    let end = ContinuousClock.now + limit
    while pods.isResting, .now < end {
      if await pods.load().isNothing(moving: false) { return }
      await control.sleep(for: Self.look)
    }
  }

  /// Ends the process: gracefully when asked for the first time, at once when asked again.
  private func quit(because reason: String) {
    switch end.asked() {
    case .drain: drain(reason)
    // The service manager asks every process of the service once more when the main one has ended.
    case .cut where upgrade.isReplaced && reason == Self.terminated: break
    case .cut:
      logger.warning(
        "asked again to end: connections that cannot be left to the next ztunnel are cut",
        metadata: ["reason": "\(reason)"])
      pods.cut()
    case .leave: control.stop()
    }
  }

  private func drain(_ reason: String) {
    readinessState.drain()
    upgrade.abandon()
    let limit = configuration.terminationDeadline
    let deadline = ContinuousClock.now + limit
    logger.info(
      pods.hasSuccessorToCome
        ? "shutting down: new connections are served as long as open ones run, then left to the next ztunnel"
        : "shutting down: no new connections are taken, open ones run on until they end or the deadline",
      metadata: ["reason": "\(reason)", "deadline": "\(limit)"])
    ServiceNotifier.stopping()
    ServiceNotifier.status("draining")
    pods.reportEnd(at: deadline)
    _ = control.schedule(after: limit + ProcessEnd.margin) { [logger, control] in
      logger.error("the end takes longer than its deadline: what still runs is abandoned")
      control.stop()
    }
    control.spawn { [self] in
      // What somebody else can go on with at once need not wait.
      await pods.moveConnections()
      if upgrade.isReplaced { await awaitDuty(within: ProcessEnd.lastWords(of: limit)) }
      await pods.serveOn(until: deadline - ProcessEnd.lastWords(of: limit))
      let hasSuccessorToCome = pods.hasSuccessorToCome
      // Who comes from here on waits until the next process is there: not for as long as a connection may run.
      let end = hasSuccessorToCome ? min(deadline, .now + ProcessEnd.lastWords(of: limit)) : deadline
      if hasSuccessorToCome {
        await pods.restForApplications()
        await pods.serveOn(until: min(end, .now + ProcessEnd.lastSetUps))
        logger.info("new connections are left to the next ztunnel", metadata: ["deadline_in": "\(deadline - .now)"])
      }
      client.stop()
      meshFile?.stop()
      revocations?.stop()
      controlPlane?.stop()
      await pods.shutDown(until: end)
      await admin.end()
      logger.info("stopped")
      control.stop()
    }
  }
}

/// Gives a new state of the mesh to all who use it.
final class MeshPublisher {
  var workers: [WorkerHandle] = []
  private let certificates: CertificateStore?
  private let logger: Logger
  private unowned let control: EventLoop
  private let shared: SharedMesh
  private var published: UInt64 = 0

  /// Without `certificates` none are fetched ahead: there is no telling which workloads are this node's.
  init(certificates: CertificateStore?, logger: Logger, control: EventLoop, shared: SharedMesh) {
    self.shared = shared
    self.certificates = certificates
    self.logger = logger
    self.control = control
  }

  /// Returns at once. What is in force everywhere, and since when, is in the log at debug level.
  func publish(_ mesh: MeshSnapshot, _ delta: MeshDelta) {
    shared.set(mesh)
    for worker in workers { worker.post { $0.update(mesh, delta) } }
    if logger.logLevel <= .debug { reportTakenOver(mesh) }
    for identity in delta.addedLocalIdentities { certificates?.prefetch(identity) }
    for identity in delta.removedLocalIdentities { certificates?.forget(identity) }
  }

  private func reportTakenOver(_ mesh: MeshSnapshot) {
    let counts: Logger.Metadata = [
      "workloads": "\(mesh.workloadCount)", "services": "\(mesh.serviceCount)", "policies": "\(mesh.policyCount)",
    ]
    published += 1
    let version = published
    control.spawn { [self] in
      // A worker gets to this only after the update that was posted before it.
      for worker in workers { await worker.run { _ in } }
      // A newer one is on its way, and says so itself.
      guard version == published else { return }
      logger.debug("mesh in force on every worker", metadata: counts)
    }
  }
}
