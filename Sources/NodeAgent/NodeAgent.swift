import Glibc
import Linux
import Logging
import Metrics
import Redirection
import Vocabulary
import ZDS

/// The daemon: workloads in, rules and a socket for ztunnel out (enrollment.md §7).
///
/// Order of a start: the socket is bound, so that a ztunnel may wait; the source is read completely; every workload
/// is tried once; only then ztunnels are accepted. So no ztunnel ever gets a snapshot that lacks what it runs.
///
/// At the end the sockets are closed and the rules stay: a workload whose proxy is gone is cut off, not in the clear.
public final class NodeAgent {
  /// For all first tries together. Who takes longer is kept as it is and goes on trying.
  private static let firstAttempts: Duration = .seconds(10)
  /// For the source to know everything, when there is something remembered to serve meanwhile.
  private static let sourcePatience: Duration = .seconds(10)
  /// For taking everything out of the mesh at the end, where that was asked for.
  private static let cleanup: Duration = .seconds(20)

  /// For the last words to the API server, when no other agent follows.
  private static let farewell: Duration = .seconds(3)

  /// The name of what readiness waits for.
  private static let sourceTask = "list of workloads"
  private static let firstAttemptsTask = "first attempts"
  private static let pluginTask = "CNI plugin"

  /// `FileDescriptorName=` of the socket for ztunnels, where a socket unit has bound it.
  static let inheritedSocketName = "zds"

  private let configuration: NodeAgentConfiguration
  private let loop: EventLoop
  private let beforeExit: @Sendable () -> Void
  private let logger = Logger(label: "node-agent")
  private let server: ZDSServer
  private let enroller: Enroller
  private let threads = BlockingThreads(limit: 8)
  private let metrics: AgentMetrics
  private let readiness = AgentReadiness()
  private let heartbeat: Heartbeat
  private let servers: AgentServers
  private var source: (any WorkloadSource)?
  private let cni: CNIService?
  private var signals: SignalSource?
  private let host: NetworkNamespace
  private var probes: HostProbeKeeper?
  /// The mode in force: what was configured, or what the kernel has.
  private let probeMode: ProbeModeInForce
  private let status: StatusEndpoint
  /// The source has said all there is.
  private var isKnown = false
  private var isWaitingForSource = false
  private var isAccepting = false
  private var end: CheckedContinuation<Void, Never>?
  private var signalled = false

  /// What it takes as events. Block them with ``SignalSource/block(_:)`` before any other thread starts.
  public static let signals = [SIGTERM, SIGINT, SIGHUP]

  /// Runs until SIGTERM or SIGINT. SIGHUP has it look at everything anew.
  ///
  /// Throws ``ZDSError`` or ``SystemError`` when it cannot start. A second signal ends the process at once, after
  /// `beforeExit`, which is called on a thread of the agent's.
  public static func run(
    _ configuration: NodeAgentConfiguration, beforeExit: @escaping @Sendable () -> Void = {}
  ) throws {
    // Before any thread can be inside another namespace, and before there is one at all.
    let inherited = InheritedDescriptors()
    let opener = NamespaceOpener.ofThisNode(proc: configuration.proc)
    SignalSource.ignoreBrokenPipes()
    // A namespace and a handful of kept sockets for each workload.
    DescriptorLimit.raise()
    let loop = try EventLoop(name: "node-agent")
    let outcome = Outcome()
    try loop.start()
    loop.spawn {
      do {
        let agent = try NodeAgent(configuration, opener, inherited, loop, beforeExit)
        try await agent.serve()
      } catch { outcome.error = error }
      loop.stop()
    }
    loop.join()
    if let error = outcome.error { throw error }
  }

  /// Written on the loop's thread before it ends, read after it was joined.
  private final class Outcome: @unchecked Sendable {
    var error: (any Error)?
  }

  private init(
    _ configuration: NodeAgentConfiguration, _ opener: NamespaceOpener, _ inherited: InheritedDescriptors,
    _ loop: EventLoop, _ beforeExit: @escaping @Sendable () -> Void
  ) throws {
    self.configuration = configuration
    self.beforeExit = beforeExit
    self.loop = loop
    let logger = logger
    let live = LiveNotice()
    host = try configuration.hostNamespace.map { try NetworkNamespace(path: $0) } ?? NetworkNamespace.home
    let probeMode = ProbeModeInForce(configuration.probeMode)
    self.probeMode = probeMode
    let metrics = AgentMetrics(version: ProductVersion.text)
    self.metrics = metrics
    readiness.require(Self.sourceTask)
    readiness.require(Self.firstAttemptsTask)
    heartbeat = Heartbeat(threads)
    servers = try AgentServers(configuration, metrics, readiness, heartbeat, logger: logger)
    let socket = inherited.take { $0 == Self.inheritedSocketName }.first?.descriptor
    server = try ZDSServer(path: configuration.socketPath, inherited: socket, on: loop) { event in
      logger.log(level: event.level, "\(event)")
      metrics.count(event)
      switch event {
      case .live: live.enroller?.ztunnelCame()
      // What it listened on is closed.
      case .closed: live.enroller?.verifyAll()
      default: break
      }
    }
    enroller = Enroller(
      defaults: configuration.redirection, redirector: Redirector(), announcer: server, opener: opener,
      fences: configuration.fences, threads: threads, logger: Logger(label: "enrolment"), metrics: metrics, on: loop)
    live.enroller = enroller
    cni = configuration.cni.map { [threads] in CNIService($0, threads: threads, metrics: metrics, on: loop) }
    let proofs = enroller.proofs
    EnrolmentMetrics.register(proofs, in: metrics.registry)
    status = StatusEndpoint(path: configuration.statusSocket, registry: metrics.registry, on: loop) {
      StatusReport(workloads: proofs.all, probes: probeMode.value.rawValue)
    }
  }

  /// Where the server's events find the enroller, which is made after it.
  private final class LiveNotice {
    weak var enroller: Enroller?
  }

  private func serve() async throws {
    logger.info("listening", metadata: ["path": "\(configuration.socketPath)"])
    if configuration.redirection.dnsCapture {
      logger.info(
        "DNS of pods is captured",
        metadata: ["ztunnel": "serves it on port 15053, unless ISTIO_META_DNS_CAPTURE says no"])
    }
    if configuration.redirection.stopsEscapes, !Redirector.tellsSenders {
      logger.warning(
        "connections that workloads open past capture are not stopped before the fence is up",
        metadata: ["reason": "the kernel has no owner match (xt_owner)"])
    }
    signals = try SignalSource(Self.signals, on: loop) { [weak self] number in self?.signalled(by: number) }
    // What comes next may wait for threads that wait for others.
    showLife()
    let source = makeSource()
    self.source = source
    do { try status.start() } catch { logger.error("`node-agent status` will not work: \(error)") }
    // Before any workload is tried: each puts its addresses into the sets.
    await startProbes()
    if let admission = source as? any PodAdmission { try cni?.listen(for: admission, on: loop) }
    source.start()
    verifyPeriodically()

    if !signalled { await withCheckedContinuation { end = $0 } }
    ServiceNotifier.stopping()
    readiness.stop()
    let cluster = source as? KubernetesSource
    let isLastHere = await cni?.leave { await cluster?.daemonSet(namespace: configuration.cni?.entry.agentNamespace) }
    if isLastHere == true { await cluster?.withdraw(within: Self.farewell) }
    source.stop()
    if configuration.cleanupOnExit {
      let done = await enroller.leaveAll(within: Self.cleanup)
      logger.log(
        level: done ? .info : .error,
        done ? "every workload left the mesh" : "not every workload left the mesh in time")
    } else {
      logger.info("redirection stays in force: enrolled workloads are cut off while no ztunnel serves them")
    }
    if configuration.cleanupOnExit || isLastHere == true {
      // What comes to be exempt now would need sets that are going.
      enroller.probes = nil
      await probes?.uninstall()
    }
    server.stop()
    await status.stop()
    await servers.end()
    logger.info("stopped")
  }

  private func makeSource() -> any WorkloadSource {
    switch configuration.source {
    case .directory(let path):
      ServiceNotifier.status("reading \(path)")
      let directory = WorkloadDirectory(
        path: path, remembered: RememberedFiles(directory: configuration.stateDirectory))
      return DirectorySource(
        directory, threads: threads, logger: Logger(label: "workloads"), on: loop
      ) { [weak self] workloads in self?.want(workloads, .complete) }
    case .kubernetes(let settings):
      ServiceNotifier.status("reading the cluster at \(settings.access.server)")
      return KubernetesSource(
        settings, enroller: enroller, stateDirectory: configuration.stateDirectory,
        logger: Logger(label: "kubernetes"), on: loop
      ) { [weak self] workloads, completeness in self?.want(workloads, completeness) }
    }
  }

  private func want(_ workloads: [DesiredWorkload], _ completeness: Completeness) {
    enroller.want(workloads)
    ServiceNotifier.status("\(workloads.count(where: \.inMesh)) workloads wanted in the mesh")
    switch completeness {
    case .remembered:
      guard !isKnown, !isWaitingForSource else { return }
      isWaitingForSource = true
      logger.notice(
        "workloads of an earlier run are proven until the source of workloads answers",
        metadata: ["workloads": "\(workloads.count)", "accepting_ztunnels_without_it_in": "\(Self.sourcePatience)"])
      // A snapshot that lacks a workload has ztunnel let go of it; none at all leaves a ztunnel that starts without any.
      _ = loop.schedule(after: Self.sourcePatience) { [weak self] in self?.acceptZtunnels() }
    case .complete:
      if !isKnown {
        isKnown = true
        readiness.done(Self.sourceTask)
        let uids = Set(workloads.filter(\.inMesh).map(\.uid.text))
        loop.spawn { [self] in
          await enroller.firstAttempts(within: Self.firstAttempts)
          await probes?.prune(keeping: uids)
        }
      }
      acceptZtunnels()
    }
  }

  private func acceptZtunnels() {
    guard !isAccepting, !signalled else { return }
    isAccepting = true
    loop.spawn { [self] in
      await enroller.firstAttempts(within: Self.firstAttempts)
      do {
        try server.startAccepting()
        cni?.install()
        watchPlugin()
        readiness.done(Self.firstAttemptsTask)
        ServiceNotifier.ready()
        logger.info("accepting ztunnels")
      } catch {
        logger.critical("cannot accept ztunnels: \(error)")
        signalled(by: SIGTERM)
      }
    }
  }

  /// A node whose pods do not pass through the plugin must not count as ready: a taint may hang on it (enrollment.md §12).
  private func watchPlugin() {
    guard let cni else { return }
    cni.isReady ? readiness.done(Self.pluginTask) : readiness.require(Self.pluginTask)
    _ = loop.schedule(after: .seconds(1)) { [weak self] in
      guard let self, !signalled else { return }
      watchPlugin()
    }
  }

  // MARK: Probes

  private func startProbes() async {
    let settings = configuration.redirection
    switch probeMode.value {
    case .off: return
    case .host:
      let rules = HostProbes(settings, host: host)
      let keeper = HostProbeKeeper(rules, threads: threads, logger: Logger(label: "probes"))
      await keeper.install()
      guard keeper.trouble != .setsMissing else {
        logger.warning(
          "probes are recognised inside the pods instead",
          metadata: ["reason": "the kernel has no sets of addresses", "AMBIENT_PROBE_MODE": "in-pod"])
        probeMode.value = .inPod
        return await startProbes()
      }
      probes = keeper
      enroller.probes = rules
    case .inPod:
      let rules = HopLimitMarks(ipv6: settings.ipv6, host: host)
      let keeper = HostProbeKeeper(rules, threads: threads, logger: Logger(label: "probes"))
      probes = keeper
      await keepProbes()
    }
  }

  /// Mends the node's rules, and tells the pods' rules which addresses the node has now.
  private func keepProbes() async {
    await probes?.install()
    guard probeMode.value == .inPod else { return }
    let host = host
    let outcome = try? await threads.run {
      try host.enter { () throws -> Set<IPAddress> in try InterfaceAddresses.current() }
    }
    guard let found = outcome?.filter({ !$0.isLoopback }).sorted(by: { $0.description < $1.description }) else {
      return logger.error("the node's addresses cannot be read; probes go on from those known before")
    }
    if found.count > Self.mostNodeAddresses {
      logger.error("the node has more than \(Self.mostNodeAddresses) addresses; probes from the others are captured")
    }
    enroller.defaults.probeRecognition = .hopLimit(node: Array(found.prefix(Self.mostNodeAddresses)))
  }

  /// Each is a rule in every pod.
  private static let mostNodeAddresses = 64

  private func verifyPeriodically() {
    _ = loop.schedule(after: configuration.reconcileInterval) { [weak self] in
      guard let self else { return }
      enroller.verifyAll()
      loop.spawn { [self] in await keepProbes() }
      verifyPeriodically()
    }
  }

  /// For whoever may restart the agent: this thread still makes progress, and so do those that block.
  private func showLife() {
    heartbeat.beat()
    if let trouble = heartbeat.trouble() {
      logger.error("\(trouble)")
    } else {
      ServiceNotifier.alive()
    }
    let interval = min(.seconds(5), (ServiceNotifier.watchdogInterval ?? .seconds(15)) / 3)
    _ = loop.schedule(after: interval) { [weak self] in self?.showLife() }
  }

  private func signalled(by number: CInt) {
    if number == SIGHUP {
      logger.info(
        "looking at everything anew",
        metadata: [
          "signal": "\(number)", "source": "\(configuration.source)", "rules": "compared, repaired if need be",
        ])
      source?.reread()
      enroller.verifyAll()
      return
    }
    // Asked twice: whoever asks does not want to wait for a clean-up.
    if signalled {
      logger.warning("asked again to end: what is left of the clean-up is abandoned", metadata: ["signal": "\(number)"])
      beforeExit()
      exit(1)
    }
    signalled = true
    logger.info("stopping", metadata: ["signal": "\(number)"])
    end?.resume()
    end = nil
  }
}

extension ZDSServerEvent {
  var level: Logger.Level {
    switch self {
    case .connected, .hello: .debug
    case .live, .told: .info
    case .closed(_, .closedByPeer), .closed(_, .stopped): .info
    case .peerRefused, .tooManyConnections, .acceptFailed, .snapshotEntryRefused, .socketRefused, .closed,
      .mailboxesDropped:
      .warning
    }
  }
}
