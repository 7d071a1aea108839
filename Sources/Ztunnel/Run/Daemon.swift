import Glibc
import Identity
import Linux
import Logging
import Mesh
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
  private let readiness: Readiness
  private let pods: PodHost
  private let client: ZDSClient
  private var signals: SignalSource?
  private var stopping = false

  /// Reads the mesh and starts the workers; nothing is served yet. Throws a `CodedError`.
  init(
    configuration: ZtunnelConfiguration, certificates: CertificateStore, controlPlane: ControlPlane?,
    log: LogPipeline, socketPath: UnixSocketPath, control: EventLoop
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
    let publisher = MeshPublisher(
      certificates: configuration.nodeName == nil ? nil : certificates, logger: Logger(label: "ztunnel::state"),
      control: control)
    self.publisher = publisher
    let mesh = MeshState(settings: settings) { publisher.publish($0, $1) }
    self.mesh = mesh
    meshFile = try configuration.localMesh.map {
      try MeshFileSource($0, into: mesh, on: control, log: Logger(label: "ztunnel::state"))
    }
    let context = WorkerContext(
      configuration: configuration, certificates: certificates, accessLog: log.accessLog,
      logger: Logger(label: "ztunnel::proxy"), demands: settings.isOnDemand ? controlPlane : nil)
    let snapshot = mesh.snapshot
    workers = try (0..<configuration.workerThreads).map {
      try WorkerHandle(index: $0, context: context, mesh: snapshot)
    }
    publisher.workers = workers
    let readiness = Readiness(logger: logger)
    self.readiness = readiness
    pods = PodHost(
      loop: control, workers: workers, configuration: configuration, logger: Logger(label: "ztunnel::inpod"),
      readinessChanged: { readiness.changed(to: $0) })
    client = ZDSClient(path: socketPath, on: control, handler: pods)
  }

  /// Starts to serve. On the control loop.
  func start() {
    do throws(SystemError) {
      signals = try SignalSource([SIGTERM, SIGINT], on: control) { [unowned self] in received(signal: $0) }
    } catch {
      logger.critical("signals cannot be taken", metadata: ["error": "\(error)"])
      control.stop()
      return
    }
    meshFile?.start()
    guard let discovery = configuration.discovery, let controlPlane else { return serve() }
    // Pods are served once the mesh is known: before that, policies would be missing (lifecycle.md §2).
    ServiceNotifier.status("not ready: state manager")
    controlPlane.follow(
      discovery, on: control, logger: Logger(label: "ztunnel::xds"),
      begin: { [mesh] in mesh.beginUpdate() }, publish: { [unowned self] in await enforce($0, $1) },
      ready: { [unowned self] in received() })
  }

  /// Returns when every worker decides by the changed mesh: then it may be said that the changes are in force.
  private func enforce(_ update: MeshUpdate, _ delta: MeshDelta) async {
    mesh.finish(update, delta)
    for worker in workers { await worker.run { _ in } }
  }

  /// The control plane has told everything once.
  private func received() {
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
    guard !stopping else { return }
    control.spawn { [client] in await client.run() }
  }

  /// Ends the workers' threads, after the control loop has ended: libssl is taken down as the process exits, and must
  /// not be in use then.
  func stopWorkers() {
    for worker in workers { worker.stop() }
  }

  private func received(signal: CInt) {
    if stopping {
      // The second one means now. What is cut is in the log of its own accord: the kernel resets it.
      logger.warning("ending at once", metadata: ["signal": "\(signal)"])
      if signal == SIGINT { control.stop() }
      return
    }
    stopping = true
    logger.info(
      "shutting down: listeners close, connections run on until they end or the deadline",
      metadata: ["signal": "\(signal)", "deadline": "\(configuration.terminationDeadline)"])
    ServiceNotifier.stopping()
    client.stop()
    meshFile?.stop()
    controlPlane?.stop()
    control.spawn { [self] in
      await pods.shutDown()
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
  private var published: UInt64 = 0

  /// Without `certificates` none are fetched ahead: there is no telling which workloads are this node's.
  init(certificates: CertificateStore?, logger: Logger, control: EventLoop) {
    self.certificates = certificates
    self.logger = logger
    self.control = control
  }

  /// Returns at once. What is in force everywhere, and since when, is in the log at debug level.
  func publish(_ mesh: MeshSnapshot, _ delta: MeshDelta) {
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

/// Says when the proxy becomes ready and when it stops being so.
final class Readiness {
  private let logger: Logger
  private var wasReady = false

  init(logger: Logger) { self.logger = logger }

  func changed(to ready: Bool) {
    if ready {
      if !wasReady { ServiceNotifier.ready() }
      wasReady = true
      ServiceNotifier.status("ready")
      logger.info("ready")
    } else {
      ServiceNotifier.status("not ready: workload proxy manager")
      logger.info("not ready", metadata: ["pending": "workload proxy manager"])
    }
  }
}
