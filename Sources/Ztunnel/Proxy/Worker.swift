import HTTP2
import Identity
import Linux
import Logging
import Mesh
import TLS
import Telemetry
import Vocabulary
import XDS
import ZDS

/// What all workers share. Everything in it is safe to use from any thread.
struct WorkerContext: Sendable {
  let configuration: ZtunnelConfiguration
  let certificates: CertificateStore
  /// Nil where no revocation list is configured.
  let revocations: RevocationState?
  let accessLog: AccessLog
  let logger: Logger
  let levels: LogLevels
  let names: NameService
  let metrics: ZtunnelMetrics
  /// Nil where the whole mesh is known.
  let demands: ControlPlane?
  let acceptTrouble: AcceptTrouble
  let balance = WorkerBalance()

  /// Without `names` the system's lookup finds the addresses of host names.
  init(
    configuration: ZtunnelConfiguration, certificates: CertificateStore, revocations: RevocationState? = nil,
    accessLog: AccessLog, logger: Logger, levels: LogLevels = LogLevels(), metrics: ZtunnelMetrics,
    names: NameService? = nil, demands: ControlPlane? = nil
  ) {
    self.metrics = metrics
    self.configuration = configuration
    self.certificates = certificates
    self.revocations = revocations
    self.accessLog = accessLog
    self.logger = logger
    self.levels = levels
    self.names = names ?? NameService(SystemResolver(ipv6Enabled: configuration.ipv6Enabled))
    self.demands = demands
    acceptTrouble = AcceptTrouble(
      logger: logger, pauses: metrics.acceptPauses, turnedAway: metrics.turnedAway)
  }
}

/// What still runs while a process or a pod ends.
struct DrainLoad: Sendable, Equatable {
  /// Of applications.
  var connections = 0
  /// Of those, the ones that another process could go on with.
  var movable = 0
  /// Inbound tunnels, idle ones too.
  var tunnels = 0
  /// Connections and tunnels that are being set up.
  var tasks = 0

  /// Nobody would notice if the process left now; with `moving`, somebody takes what can be moved.
  func isNothing(moving: Bool) -> Bool { connections == (moving ? movable : 0) && tasks == 0 }

  static func += (left: inout DrainLoad, right: DrainLoad) {
    left.connections += right.connections
    left.movable += right.movable
    left.tunnels += right.tunnels
    left.tasks += right.tasks
  }
}

/// One thread of the data path: it accepts connections of every pod and keeps each until it ends. Nothing in it is shared
/// with another worker, so nothing in it is locked.
final class Worker {
  /// From 0.
  let index: Int
  let loop: EventLoop
  let context: WorkerContext
  let dialer: Dialer
  /// One for each connection that one turn of accepting can bring.
  let reserve = DescriptorReserve(size: Acceptor.turn)
  let metrics: WorkerMetrics
  let burden: WorkerLoad
  let buffers = WorkBuffers()
  /// Where plain connections are copied through.
  let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 64)
  var random = FastRandom()
  let serverSettings: HTTP2Settings
  let clientSettings: HTTP2Settings
  private(set) var mesh: MeshSnapshot
  /// DNS queries of all pods that wait for an answer from upstream.
  var forwardedQueries = 0
  /// What the pods' DNS proxies have done on this worker.
  var dnsMetrics = DNSMetrics()
  private var pods: [ProxyID: PodWorker] = [:]
  /// Those whose last connections run on; policy still holds for them.
  private var leaving: [ProxyID: PodWorker] = [:]
  private var isResting = false
  private var isCut = false
  private var meshWaiters: [UInt64: (Bool) -> Void] = [:]
  private var lastWaiter: UInt64 = 0
  private var usedKeys = UsedKeys()

  /// Time a connection waits for the record of its own pod (datapath.md §3).
  static let workloadLimit = Duration.seconds(5)
  /// Time a connection waits for records that it depends on, where the mesh is learnt on demand.
  static let demandLimit = Duration.seconds(5)
  /// Time it waits for records that only make its log line better: some round trips to the control plane, and little enough
  /// for each connection to bear when that is away.
  static let labelLimit = Duration.milliseconds(200)
  /// Time a connection waits for its pod's certificate.
  static let certificateLimit = Duration.seconds(10)
  /// Time that what is under way has to end by itself when its pod is gone. The node agent waits for it, and others
  /// behind it.
  static let removalLimit = Duration.seconds(1)

  init(index: Int, loop: EventLoop, context: WorkerContext, mesh: MeshSnapshot, burden: WorkerLoad) {
    self.index = index
    self.burden = burden
    self.loop = loop
    self.context = context
    self.mesh = mesh
    metrics = WorkerMetrics(context.metrics)
    dialer = Dialer(loop: loop, configuration: context.configuration, reserve: reserve)
    serverSettings = HTTP2Settings(.server, context.configuration)
    clientSettings = HTTP2Settings(.client, context.configuration)
  }

  deinit { scratch.deallocate() }

  // MARK: Pods

  /// Serves a pod from now on. Throws ``SystemError`` when its listeners cannot be watched.
  func adopt(_ pod: PodProxy, _ sockets: PodSockets) throws(SystemError) {
    let proxy = PodWorker(pod, worker: self)
    try proxy.start(sockets)
    if isResting { proxy.rest(true) }
    pods[pod.id] = proxy
  }

  /// A pod that was adopted is served for good.
  func startReceiving(for id: ProxyID) { pods[id]?.startReceiving() }

  /// Leaves new connections of every pod to another process, or takes them again.
  func rest(_ isResting: Bool) {
    guard isResting != self.isResting else { return }
    self.isResting = isResting
    for pod in pods.values { pod.rest(isResting) }
  }

  /// Leaves new connections of every pod's applications to the next process.
  func restForApplications() {
    for pod in pods.values { pod.restForApplications() }
  }

  /// Leaves what can be moved of these pods to the process that serves now.
  func moveConnections(of ids: Set<ProxyID>) {
    guard isResting else { return }
    for (id, pod) in pods where ids.contains(id) { pod.moveConnectionsNow() }
  }

  /// Stops serving a pod. Suspends until its last connection is gone; gracefully, until `deadline` at most. With
  /// `leavingBacklog`, what waits to be accepted is left to whoever else has the sockets.
  func drain(
    _ id: ProxyID, _ mode: DrainMode, until deadline: ContinuousClock.Instant = .now, leavingBacklog: Bool = false
  ) async {
    guard let proxy = pods.removeValue(forKey: id) else { return }
    leaving[id] = proxy
    let now = ContinuousClock.now
    let end =
      switch mode {
      case .graceful: isCut ? now : deadline
      case .removal: isCut ? now : now + Self.removalLimit
      case .immediate: now
      }
    await proxy.stop(mode, deadline: end, leavingBacklog: leavingBacklog)
    leaving[id] = nil
  }

  /// Serves a connection that another worker has accepted. False where the pod has left this one.
  func take(_ arrival: PodArrival, of id: ProxyID) -> Bool {
    guard let pod = pods[id] ?? leaving[id] else { return false }
    pod.serve(arrival)
    return true
  }

  /// A connection that was handed to another worker is served there, or comes back.
  func handoverEnded(of id: ProxyID, returned: PodArrival?) {
    (pods[id] ?? leaving[id])?.handoverEnded(returned: returned)
  }

  // MARK: What there is to tell

  /// Counts what live connections have moved, and says what there is now. Others have their turn after each pod.
  func report() async -> WorkerReport {
    var report = WorkerReport()
    report.worker = index
    report.dns = dnsMetrics
    for pod in Array(pods.values) + Array(leaving.values) {
      pod.report(&report)
      await Task.yield()
    }
    return report
  }

  /// The live connections of each pod. Others have their turn after a few hundred.
  func connections() async -> [WorkloadUID: [ConnectionSnapshot]] {
    var found: [WorkloadUID: [ConnectionSnapshot]] = [:]
    for pod in Array(pods.values) + Array(leaving.values) {
      var snapshots: [ConnectionSnapshot] = []
      for record in Array(pod.live.values) {
        snapshots.append(record.snapshot)
        if snapshots.count.isMultiple(of: Self.connectionsInOneTurn) { await Task.yield() }
      }
      found[pod.pod.id.uid, default: []] += snapshots
      await Task.yield()
    }
    return found
  }

  private static let connectionsInOneTurn = 256

  /// Whoever drains now, or later, does not wait any longer.
  func cut() {
    isCut = true
    for pod in leaving.values { pod.stopWaiting() }
  }

  /// What is under way in all pods.
  var drainLoad: DrainLoad {
    var sum = pods.values.reduce(into: DrainLoad()) { $0 += $1.load }
    for pod in leaving.values { sum += pod.load }
    return sum
  }

  // MARK: Mesh state

  /// Takes over a new state of the mesh: connections that it no longer allows are closed.
  func update(_ mesh: MeshSnapshot, _ delta: MeshDelta) {
    self.mesh = mesh
    for pod in pods.values { pod.reevaluate(delta) }
    for pod in leaving.values { pod.reevaluate(delta) }
    let waiters = meshWaiters
    meshWaiters = [:]
    for waiter in waiters.values { waiter(true) }
  }

  /// The record of a pod's own workload, waited for up to five seconds. Throws ``ProxyError/unknownLocalWorkload(_:)``.
  func localWorkload(_ info: WorkloadInfo) async throws(ProxyError) -> Workload {
    if let workload = mesh.localWorkload(
      namespace: info.namespace, name: info.name, serviceAccount: info.serviceAccount)
    {
      return workload
    }
    // The control plane sends this node's workloads unasked, but may not have heard of this one's node.
    let cluster = context.configuration.clusterID
    context.demands?.demand(
      Demand([.workload(uid: "\(cluster)//Pod/\(info.namespace)/\(info.name)")], for: nil))
    let deadline = ContinuousClock.now + Self.workloadLimit
    while true {
      if let workload = mesh.localWorkload(
        namespace: info.namespace, name: info.name, serviceAccount: info.serviceAccount)
      {
        return workload
      }
      guard await meshChanges(before: deadline) else { throw .unknownLocalWorkload(info) }
    }
  }

  /// Suspends until the mesh has what `unsettled` asks of it for `pod`, where it is learnt on demand, and returns what is missing
  /// when `limit` has passed. `unsettled` is asked again after each change, because one record can lead to another.
  func learn(
    for pod: PodProxy, within limit: Duration, _ unsettled: (MeshSnapshot) -> [MeshKey]
  ) async -> [MeshKey] {
    guard let demands = context.demands else { return [] }
    let deadline = ContinuousClock.now + limit
    var asked: Set<MeshKey> = []
    while true {
      let missing = unsettled(mesh)
      if missing.isEmpty { return [] }
      let new = missing.filter { asked.insert($0).inserted }
      if !new.isEmpty { demands.demand(Demand(new, for: pod.id.uid.description)) }
      repeat {
        guard await meshChanges(before: deadline) else { return missing }
      } while !missing.contains { mesh.isSettled($0) }
    }
  }

  /// Tells the control plane's client that the records under `keys` are in use by `pod`, so that it keeps them.
  func note(inUse keys: [MeshKey], by pod: PodProxy) {
    guard let demands = context.demands else { return }
    let uid = pod.id.uid.description
    let news = usedKeys.news(keys, by: uid, at: .now)
    if !news.isEmpty { demands.demand(Demand(news, for: uid)) }
  }

  /// The record of the workload at a peer's address, for the log.
  func learnPeer(_ ip: IPAddress, of pod: PodProxy) async {
    guard context.demands != nil else { return }
    let key = MeshKey.address(NetworkAddress(network: mesh.settings.network, ip: ip.canonical))
    _ = await learn(for: pod, within: Self.labelLimit) { $0.isSettled(key) ? [] : [key] }
    note(inUse: [key], by: pod)
  }

  /// Suspends until the mesh state changes: true; or until `deadline`: false.
  private func meshChanges(before deadline: ContinuousClock.Instant) async -> Bool {
    await withUnsafeContinuation { continuation in
      lastWaiter += 1
      let key = lastWaiter
      let timer = loop.schedule(at: deadline) { [unowned self] in
        if meshWaiters.removeValue(forKey: key) != nil { continuation.resume(returning: false) }
      }
      meshWaiters[key] = { changed in
        timer.cancel()
        continuation.resume(returning: changed)
      }
    }
  }

  // MARK: Certificates

  /// The credentials of a workload's identity, waited for up to ten seconds.
  func credentials(of workload: Workload) async throws(ProxyError) -> WorkloadCredentials {
    if let current = context.certificates.current(workload.identity) { return current }
    do throws(IdentityError) {
      return try await context.certificates.credentials(
        for: workload.identity, until: .now + Self.certificateLimit)
    } catch { throw .identity(error) }
  }
}

// MARK: Revocation

extension Worker {
  /// Closes every tunnel whose peer is on the revocation list in force.
  func closeRevoked() {
    for pod in pods.values { pod.closeRevoked() }
    for pod in leaving.values { pod.closeRevoked() }
  }

  /// Closes a tunnel whose peer is revoked; true where it was. A list that came in during the handshake counts too.
  @discardableResult
  func closeIfRevoked(_ connection: HTTP2Connection) -> Bool {
    guard let revocations = context.revocations, connection.closed == nil, connection.isPeerRevoked else {
      return false
    }
    revocations.countRejection(connection.role == .client ? .source : .destination)
    connection.close(.peerRevoked)
    return true
  }
}

extension HTTP2Settings {
  fileprivate init(_ base: HTTP2Settings, _ configuration: ZtunnelConfiguration) {
    self = base
    streamWindow = configuration.streamWindow
    connectionWindow = configuration.connectionWindow
    maxFrameSize = configuration.maxFrameSize
  }
}
