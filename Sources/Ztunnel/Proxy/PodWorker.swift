import HTTP2
import Linux
import Logging
import Mesh
import Telemetry
import Vocabulary
import ZDS

/// One pod on one worker: its listeners, its tunnels, its connections.
final class PodWorker {
  let pod: PodProxy
  unowned let worker: Worker
  /// What the pod's applications open, and what is accepted for it, takes its time from this. Each tunnel of a peer has a
  /// share of its own, so that one peer does not starve the others.
  private let share: LoopShare
  let pool: TunnelPool
  let log: PodLog
  /// Nil where the DNS proxy is off.
  private let dns: PodDNS?
  /// Finds hosts for clients of the SOCKS5 port; the DNS proxy, where that is on. Nil without that port.
  let names: PodDNS?
  let traffic: TrafficShard
  /// Connections from the moment their destination is known until their end.
  var live: [ObjectIdentifier: ConnectionRecord] = [:]
  /// By applications of the pod.
  var bytesSent: UInt64 = 0
  var bytesReceived: UInt64 = 0
  /// The congestion control for connections to the application; nil where the pod's default will do.
  private(set) var localCongestionControl: String?
  /// Connections with a record, since the pod has been served.
  var openedInbound: UInt64 = 0
  var openedOutbound: UInt64 = 0
  private var acceptors: [Acceptor] = []
  private var receivers: [MovedConnectionReceiver] = []
  /// Where connections are left for the next process.
  private var outbox: Mailbox?
  /// Of ``tracked``, those that somebody else could go on with.
  private var movable = 0
  private var movesConnections = false
  /// Another process serves: what can be moved need not wait for what cannot.
  private var movesAtOnce = false
  private var tracked: [ObjectIdentifier: TrackedConnection] = [:]
  private var servers: [ObjectIdentifier: HTTP2Connection] = [:]
  private var handshakes = 0
  /// Connections accepted here that are on their way to another worker.
  private var handovers = 0
  private var isAccepting = true
  /// Tasks that set connections up; they are not registered at once.
  private var tasks = 0
  private var isLeaving = false
  private var countsTunnels = true
  private var stopping: ProxyError?
  private var whenEmpty: (() -> Void)?

  /// TLS handshakes under way at once, for one pod on one worker. Each costs a signature; a flood must not take the
  /// processor from other pods.
  private static let mostHandshakes = 1024
  private static let settlingLimit = Duration.seconds(1)
  /// Time another worker has to take a connection; it is longer only where that one is stuck.
  private static let handoverLimit = Duration.milliseconds(50)

  init(_ pod: PodProxy, worker: Worker) {
    self.pod = pod
    self.worker = worker
    share = LoopShare(of: worker.loop)
    log = PodLog(worker.context.logger, pod.info, levels: worker.context.levels)
    traffic = TrafficShard(worker.context.metrics.traffic)
    pool = TunnelPool(worker: worker, namespace: pod.namespace)
    let configuration = worker.context.configuration
    dns = configuration.dnsProxy.map { _ in PodDNS(pod, configuration.meshResolver, worker: worker) }
    names = configuration.socks5Enabled ? dns ?? PodDNS(pod, configuration.meshResolver, worker: worker) : nil
  }

  var loop: EventLoop { worker.loop }
  var mesh: MeshSnapshot { worker.mesh }

  // MARK: Life

  /// Starts to accept on every listener, or on none. Throws ``SystemError``.
  func start(_ sockets: PodSockets) throws(SystemError) {
    localCongestionControl = sockets.localCongestionControl
    try loop.within(share) { () throws(SystemError) in try listen(sockets) }
  }

  private func listen(_ sockets: PodSockets) throws(SystemError) {
    do throws(SystemError) { try dns?.start(sockets.datagrams) } catch {
      dns?.cut()
      throw error
    }
    for listener in sockets.listeners {
      let acceptor = Acceptor(listener, loop: loop, reserve: worker.reserve, trouble: worker.context.acceptTrouble) {
        [unowned self] socket, peer in
        accepted(socket, peer, listener)
      }
      do throws(SystemError) { try acceptor.start() } catch {
        for acceptor in acceptors { acceptor.stop(takingBacklog: false) }
        dns?.cut()
        throw error
      }
      acceptors.append(acceptor)
    }
    outbox = sockets.mailboxes.first
    for mailbox in sockets.mailboxes {
      let receiver = MovedConnectionReceiver(
        mailbox, of: pod, loop: loop, reserve: worker.reserve, logger: worker.context.logger
      ) { [unowned self] in resume($0) }
      receivers.append(receiver)
    }
  }

  /// Takes over what earlier processes have left, from now on. Once the pod is served for good: what was taken by then would
  /// be cut if it were not.
  func startReceiving() {
    guard isAccepting, !isLeaving else { return }
    loop.within(share) { for receiver in receivers { receiver.start() } }
  }

  /// Leaves new connections to another process that has the same sockets, and asks peers to move on to it; or takes them
  /// again. What is open runs on.
  func rest(_ isResting: Bool) {
    guard isResting else {
      isLeaving = false
      movesConnections = false
      movesAtOnce = false
      loop.within(share) {
        for acceptor in acceptors {
          do throws(SystemError) { try acceptor.start() } catch { acceptor.retryStart(after: error) }
        }
        try? dns?.resume()
        for receiver in receivers { receiver.start() }
      }
      return
    }
    isLeaving = true
    for acceptor in acceptors { acceptor.rest() }
    for receiver in receivers { receiver.rest() }
    dns?.rest()
    for server in Array(servers.values) { server.shutDownGracefully() }
  }

  /// Leaves what applications open, and what comes in the clear, to the next process; tunnels of peers are still accepted.
  func restForApplications() {
    for acceptor in acceptors where acceptor.role != .hbone { acceptor.rest() }
    for receiver in receivers { receiver.rest() }
  }

  /// Stops listening. Immediately: every connection is cut. Otherwise connections run until they end or `deadline`. With
  /// `leavingBacklog`, the sockets go on to be somebody else's, and so do what waits in their queues and, once no others
  /// run, the connections that can be moved; without it, what waits is served first.
  func stop(_ mode: DrainMode, deadline: ContinuousClock.Instant, leavingBacklog: Bool) async {
    isAccepting = false
    for acceptor in acceptors { acceptor.stop(takingBacklog: mode != .immediate && !leavingBacklog) }
    acceptors = []
    for receiver in receivers { receiver.rest() }
    receivers = []
    if mode != .immediate {
      isLeaving = true
      dns?.finish(self, leavingQueries: leavingBacklog)
      for server in Array(servers.values) { server.shutDownGracefully() }
      // A pod that is gone waits for nobody but itself: idle tunnels of peers do not count.
      countsTunnels = mode != .removal
      movesConnections = leavingBacklog && outbox != nil
      await waitUntilEmpty(until: deadline)
      moveConnections()
    }
    cut()
    pool.close()
    // What was cut while it was being set up is logged by its own task, before the process may end.
    await waitUntilEmpty(until: .now + Self.settlingLimit)
  }

  /// Ends the wait of ``stop(_:deadline:leavingBacklog:)``.
  func stopWaiting() {
    let report = whenEmpty
    whenEmpty = nil
    report?()
  }

  /// What is under way here.
  var load: DrainLoad {
    DrainLoad(connections: tracked.count, movable: movable, tunnels: servers.count, tasks: tasks + handovers)
  }

  private func cut() {
    stopping = .drained
    for connection in Array(tracked.values) { connection.abort(.drained) }
    for server in Array(servers.values) { server.closeAfterSending() }
    dns?.cut()
    names?.cut()
  }

  private func waitUntilEmpty(until deadline: ContinuousClock.Instant) async {
    guard !isEmpty else { return }
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
      let timer = loop.schedule(at: deadline) { [unowned self] in
        whenEmpty = nil
        continuation.resume()
      }
      whenEmpty = {
        timer.cancel()
        continuation.resume()
      }
    }
  }

  /// Nothing is under way that cannot be moved: no connection, none that is being set up, no tunnel that could bring one.
  private var isEmpty: Bool {
    tracked.count == (movesConnections ? movable : 0) && tasks == 0 && handovers == 0
      && (servers.isEmpty || !countsTunnels)
  }

  private func reportIfEmpty() {
    guard isEmpty, let report = whenEmpty else { return }
    whenEmpty = nil
    report()
  }

  // MARK: Connections

  /// Runs the set-up of a connection as a task of the loop, in `share` or else in the one that has its turn; the pod is not
  /// empty while it runs.
  func setUp(in share: LoopShare? = nil, _ body: @escaping () async -> Void) {
    tasks += 1
    worker.burden.add(1)
    loop.spawn(in: share) { [self] in
      await body()
      tasks -= 1
      worker.burden.add(-1)
      reportIfEmpty()
    }
  }

  private func accepted(_ socket: SharedDescriptor, _ peer: SocketAddress, _ listener: PodListener) {
    // Not the listener itself: a task that held it would keep its socket listening, with nobody to accept.
    let arrival = PodArrival(
      socket: socket, peer: peer, role: listener.role, preservesSource: listener.isTransparent)
    if !handOver(arrival) { serve(arrival) }
  }

  /// Gives a new connection to a worker that has less to do, where there is one: true. One that is not taken in time comes
  /// back. Who accepts a backlog while the pod leaves keeps what it gets.
  private func handOver(_ arrival: PodArrival) -> Bool {
    guard isAccepting, arrival.role != .dns, let (mine, other) = worker.context.balance.lessBusy(than: worker.index)
    else { return false }
    let (id, handover) = (pod.id, ConnectionHandover())
    handovers += 1
    other.load.add(1)
    let timer = loop.schedule(after: Self.handoverLimit) { [self] in
      guard handover.claim() else { return }
      other.load.isSilent = true
      handoverEnded(returned: arrival)
    }
    nonisolated(unsafe) let deadline = timer
    other.handle.post { worker in
      other.load.add(-1)
      other.load.isSilent = false
      guard handover.claim() else { return }
      let isTaken = worker.take(arrival, of: id)
      mine.handle.post {
        // Back on the worker that made it.
        deadline.cancel()
        $0.handoverEnded(of: id, returned: isTaken ? nil : arrival)
      }
    }
    return true
  }

  func handoverEnded(returned arrival: PodArrival?) {
    handovers -= 1
    if let arrival { serve(arrival) }
    reportIfEmpty()
  }

  /// Serves a connection that was accepted here or by another worker.
  func serve(_ arrival: PodArrival) {
    let (socket, peer, preservesSource) = (arrival.socket, arrival.peer, arrival.preservesSource)
    switch arrival.role {
    case .dns:
      loop.within(share) { dns?.accept(socket) }
    case .outbound:
      setUp(in: share) { [self] in await OutboundProxy(self, socket, peer).run() }
    case .passthrough:
      setUp(in: share) { [self] in
        await PassthroughProxy(self, socket, peer, preservesSource: preservesSource).run()
      }
    case .socks:
      setUp(in: share) { [self] in await SocksProxy(self, socket, peer).run() }
    case .hbone:
      guard handshakes < Self.mostHandshakes else {
        deny(from: peer, to: SocketAddress(.any(peer.ip.family), arrival.role.rawValue), .inbound, .tooManyHandshakes)
        return
      }
      handshakes += 1
      setUp(in: LoopShare(of: loop)) { [self] in
        await InboundTunnel(self, socket, peer, preservesSource: preservesSource).run {
          self.handshakes -= 1
        }
      }
    }
  }

  /// Registers a connection, so that it can be ended from outside. ``end(_:)`` takes it out again.
  func begin(_ connection: TrackedConnection) {
    tracked[ObjectIdentifier(connection)] = connection
    worker.burden.add(1)
    if let stopping { connection.abort(stopping) }
  }

  /// Lets a connection go that has ended.
  func end(_ connection: TrackedConnection) {
    connection.abortAction = nil
    if connection.moveAction != nil {
      connection.moveAction = nil
      movable -= 1
    }
    if tracked.removeValue(forKey: ObjectIdentifier(connection)) != nil { worker.burden.add(-1) }
    reportIfEmpty()
  }

  /// Moves the bytes of a registered connection until it ends; it is then let go after `completion`. The pump, and with
  /// it its sockets, lives as long as the connection is registered.
  func relay(
    _ connection: TrackedConnection, through pump: some Pump, _ completion: @escaping (PumpOutcome) -> Void
  ) {
    connection.abortAction = { pump.abort($0) }
    pump.start { [self] outcome in
      completion(outcome)
      end(connection)
    }
  }

  /// A relayed connection can be moved to another process, by `action`.
  func canMove(_ connection: TrackedConnection, by action: @escaping ((MovedConnection) -> Bool) -> Void) {
    // It may be over already.
    guard tracked[ObjectIdentifier(connection)] != nil else { return }
    connection.moveAction = action
    movable += 1
    if movesAtOnce { moveConnections() }
    reportIfEmpty()
  }

  /// Leaves what can be moved to the process that serves now, and what becomes movable later.
  func moveConnectionsNow() {
    guard outbox != nil else { return }
    movesConnections = true
    movesAtOnce = true
    moveConnections()
  }

  /// Leaves to the next process what it can go on with.
  private func moveConnections() {
    guard movesConnections else { return }
    var moved = 0
    for connection in Array(tracked.values) {
      guard let move = connection.moveAction else { continue }
      move { left in
        guard leave(left) else { return false }
        moved += 1
        return true
      }
      end(connection)
    }
    guard moved > 0 else { return }
    worker.context.logger.info(
      "connections are left to the next ztunnel",
      metadata: ["workload": "\(pod.info)", "connections": "\(moved)"])
  }

  /// Puts a connection where the next process finds it. False where it cannot: then it ends with a reset.
  func leave(_ moved: MovedConnection) -> Bool {
    guard movesConnections, let outbox else { return false }
    do throws(MovedConnectionError) { try moved.put(into: outbox) } catch {
      worker.context.logger.warning(
        "a connection cannot be left to the next ztunnel",
        metadata: ["workload": "\(pod.info)", "error": "\(error)"])
      return false
    }
    worker.context.metrics.connectionsLeft.add()
    return true
  }

  /// Goes on with a connection that an earlier process has left.
  private func resume(_ moved: MovedConnection) {
    worker.context.metrics.connectionsTakenOver.add()
    setUp(in: share) { [self] in
      switch moved.facts.direction {
      case .inbound: await PassthroughProxy.resume(moved, of: self)
      case .outbound: await OutboundProxy.resume(moved, of: self)
      }
    }
  }

  /// Keeps an established tunnel of a peer until it closes.
  func keep(_ server: HTTP2Connection) {
    let key = ObjectIdentifier(server)
    servers[key] = server
    worker.burden.add(1)
    let previous = server.onClose
    server.onClose = { [weak self] reason in
      previous?(reason)
      guard let self else { return }
      if servers.removeValue(forKey: key) != nil { worker.burden.add(-1) }
      reportIfEmpty()
    }
    if stopping != nil { server.close(.closedLocally) }
  }

  /// Closes the tunnels of both directions whose peers are revoked now.
  func closeRevoked() {
    for server in Array(servers.values) { worker.closeIfRevoked(server) }
    for tunnel in pool.connections { worker.closeIfRevoked(tunnel) }
  }

  /// A kept tunnel has done its handshake. One that came from the backlog of a leaving process is told so at once.
  func established(_ server: HTTP2Connection) {
    if worker.closeIfRevoked(server) { return }
    if isLeaving { server.shutDownGracefully() }
  }

  // MARK: Policy

  /// Asks policy about an inbound connection as things are now.
  func decide(_ attributes: ConnectionAttributes, for workload: Workload) -> PolicyDecision {
    let decision = mesh.evaluate(attributes, destination: workload)
    for outcome in decision.dryRuns {
      let level: Logger.Level = worker.context.configuration.logsPolicyAtInfo ? .info : .debug
      worker.context.logger.log(
        level: level, "\(outcome)", metadata: outcome.policy.map { ["policy": "\($0)"] })
      worker.metrics.policyDryRuns[outcome.policy ?? WorkerMetrics.nobody, "\(outcome)"].add()
    }
    return decision
  }

  /// Closes every inbound connection that is no longer allowed. Both a change of policies and one of the workload's own
  /// record (its list of policies, its labels) matter.
  func reevaluate(_ delta: MeshDelta) {
    guard !tracked.isEmpty,
      let workload = mesh.localWorkload(
        namespace: pod.info.namespace, name: pod.info.name, serviceAccount: pod.info.serviceAccount),
      delta.affectsPolicy(ofWorkload: workload.uid)
    else { return }
    for connection in Array(tracked.values) {
      guard let attributes = connection.attributes,
        let rejection = decide(attributes, for: workload).rejection
      else { continue }
      worker.context.logger.info(
        "connection closed because it's no longer allowed after a policy update",
        metadata: [
          "src.addr": "\(attributes.sourceIP)", "dst.addr": "\(attributes.destination)",
          "reason": "\(rejection.summary)",
        ])
      connection.abort(.policyChanged(rejection))
    }
  }

  // MARK: Log

  /// Writes the line of a connection that failed before enough was known for a full record.
  func deny(
    from source: SocketAddress, to destination: SocketAddress, _ direction: AccessLogRecord.Direction,
    _ error: ProxyError
  ) {
    worker.metrics.failed(error, direction == .outbound ? .source : .destination)
    worker.context.accessLog.write(
      .denied(source: source, destination: destination, direction: direction, error.failure))
  }

  // MARK: What there is to tell

  /// Counts what live connections have moved, and adds what the pod holds now.
  func report(_ report: inout WorkerReport) {
    var mine = WorkerReport.Pod()
    for record in live.values {
      record.countProgress()
      if record.record.direction == .outbound { mine.outboundConnections += 1 } else { mine.inboundConnections += 1 }
    }
    mine.bytesSent = bytesSent
    mine.bytesReceived = bytesReceived
    mine.openedInbound = openedInbound
    mine.openedOutbound = openedOutbound
    report.pods[WorkerReport.PodName(namespace: pod.info.namespace, name: pod.info.name), default: .init()] += mine
    for connection in tracked.values where connection.holdsSocket {
      // Policy is asked about inbound ones only.
      if connection.attributes == nil { report.sourceSockets += 1 } else { report.destinationSockets += 1 }
    }
    report.destinationSockets += servers.count
    report.inboundTunnels += servers.count
    pool.report(&report)
  }
}
