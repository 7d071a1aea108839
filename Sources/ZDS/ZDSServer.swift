import Linux

/// The node agent's end of the socket: accepts ztunnels, gives each the snapshot, then every change (zds.md §4-§6).
///
/// Belongs to its event loop: make it, and call it, there. It never blocks. It remembers every workload it was told
/// of, with an open namespace where there is one, because that is what the next ztunnel is told (zds.md §13).
public final class ZDSServer {
  /// Times and counts (zds.md §10).
  public struct Limits: Sendable {
    /// For the hello, and for each answer.
    public var answer: Duration = .seconds(5)
    /// Between two accepts, so that a crash-looping ztunnel costs little.
    public var acceptPause: Duration = .milliseconds(200)
    public var connections = 16
    /// Listening sockets kept for all workloads together.
    public var keptSockets = 16_384
    /// How long what a ztunnel has left in mailboxes waits for another one. Then it is let go: whose connection it is sees a
    /// reset, instead of nothing for ever.
    public var mailboxPatience: Duration = .seconds(300)

    public init() {}
  }

  private struct Entry {
    var info: WorkloadInfo
    var namespace: NetworkNamespace?
    var sockets = KeptSockets()
  }

  private final class Connection {
    let socket: PacketSocket
    var session = AgentSession<NetworkNamespace>()
    var watch: Watch?
    var timer: LoopTimer?
    /// Descriptors of the packet at hand.
    var arrived: [SharedDescriptor] = []
    /// Workloads it could not start. As long as there are any, nobody else rests on its account.
    var refused: Set<WorkloadUID> = []
    var isResting = false
    /// Of several ztunnels the one with the highest rank serves; one that does not know ``Handover`` has the lowest.
    var rank: UInt64 = 0

    init(socket: PacketSocket) { self.socket = socket }
  }

  private struct Waiting {
    var fanOut: FanOut
    let continuation: CheckedContinuation<Result<Void, ZDSError>, Never>
  }

  private let loop: EventLoop
  private let limits: Limits
  private let allowedUsers: Set<UInt32>
  private let observer: (ZDSServerEvent) -> Void
  /// Nil once stopped: closing it also ends the connections that wait in its backlog.
  private var listener: PacketListener?
  private var acceptWatch: Watch?
  private var acceptTimer: LoopTimer?
  private var mailboxTimer: LoopTimer?
  private var entries: [WorkloadUID: Entry] = [:]
  private var connections: [UInt64: Connection] = [:]
  private var nextConnection: UInt64 = 1
  private var waiting: [UInt64: Waiting] = [:]
  private var asking: [UInt64: CheckedContinuation<Bool?, Never>] = [:]
  private var nextTicket: UInt64 = 1

  /// Binds the socket. A ztunnel may connect from now on, and waits until ``startAccepting()``.
  ///
  /// `allowedUsers` are the user ids that may connect. Throws ``ZDSError``.
  ///
  /// With `inherited`, a socket that a service manager has bound to the path, nothing is bound.
  public init(
    path: UnixSocketPath, inherited: SharedDescriptor? = nil, allowedUsers: Set<UInt32> = [0],
    limits: Limits = .init(), on loop: EventLoop, observer: @escaping (ZDSServerEvent) -> Void
  ) throws(ZDSError) {
    self.loop = loop
    self.limits = limits
    self.allowedUsers = allowedUsers
    self.observer = observer
    listener = if let inherited { try PacketListener(adopting: inherited) } else { try PacketListener(path: path) }
  }

  /// Ztunnels that have the whole snapshot.
  public var liveConnections: Int { connections.values.count { $0.session.phase == .live } }

  /// Accepts from now on. Call it only once every enrolled workload has been given to ``add(_:_:in:)`` or
  /// ``keep(_:_:)``: what a snapshot does not name, ztunnel tears down (zds.md §14.1). Throws ``ZDSError/system(_:)``.
  public func startAccepting() throws(ZDSError) {
    guard acceptWatch == nil, acceptTimer == nil else { return }
    do { try watchListener() } catch { throw .system(error) }
  }

  /// Tells every ztunnel to serve this workload, and returns when the newest one does.
  ///
  /// The namespace is remembered even when this throws, for the ztunnels yet to come. Throws ``ZDSError``:
  /// `.notConnected`, `.refused`, whatever ended the last connection, or `.messageTooLong`, which changes nothing.
  public func add(_ uid: WorkloadUID, _ info: WorkloadInfo, in namespace: NetworkNamespace) async throws(ZDSError) {
    var held = namespace
    if let known = entries[uid]?.namespace, known.identity == namespace.identity { held = known }
    let request = try OutgoingRequest.add(uid, info, held)
    var sockets = entries[uid]?.sockets ?? KeptSockets()
    // Those of another namespace are of no use to anybody any more.
    sockets.keepOnly(namespace.identity)
    entries[uid] = Entry(info: info, namespace: held, sockets: sockets)
    try await send(request, .add).get()
  }

  /// Remembers a workload that is enrolled but whose namespace is not at hand. Connected ztunnels are not told: they
  /// would not expect it. Throws ``ZDSError/messageTooLong(bytes:)``.
  public func keep(_ uid: WorkloadUID, _ info: WorkloadInfo) throws(ZDSError) {
    _ = try OutgoingRequest<NetworkNamespace>.keep(uid)
    entries[uid] = Entry(info: info, namespace: nil, sockets: entries[uid]?.sockets ?? KeptSockets())
  }

  /// Tells every ztunnel that this workload left, and lets go of its sockets.
  ///
  /// Returns when all have answered or are gone; a ztunnel that was gone learns it from its next snapshot, so there is
  /// nothing to retry.
  public func delete(_ uid: WorkloadUID) async {
    entries[uid] = nil
    guard let request = try? OutgoingRequest<NetworkNamespace>.delete(uid) else { return }
    _ = await send(request, .delete)
  }

  /// Whether the ztunnel that serves this workload holds a valid certificate for it. Nil where it does not tell, as one of
  /// another make does not, or there is none.
  public func identity(of uid: WorkloadUID) async -> Bool? {
    let serving = connections.filter { $0.value.session.phase == .live && !$0.value.isResting }
      .max { ($0.value.rank, $0.key) < ($1.value.rank, $1.key) }
    guard let (id, connection) = serving, connection.session.tellsIdentities,
      let request = try? OutgoingRequest<NetworkNamespace>.identity(of: uid)
    else { return nil }
    return await withCheckedContinuation { continuation in
      let ticket = nextTicket
      nextTicket += 1
      asking[ticket] = continuation
      drive(id, .submit(ticket, request))
    }
  }

  /// Closes every connection and the listener. Who waits gets ``ZDSError/stopped``.
  public func stop() {
    acceptWatch?.cancel()
    acceptWatch = nil
    acceptTimer?.cancel()
    acceptTimer = nil
    listener = nil
    for id in connections.keys.sorted() { drive(id, .stop) }
  }

  // MARK: Requests

  private func send(_ request: OutgoingRequest<NetworkNamespace>, _ kind: FanOut.Kind) async -> Result<Void, ZDSError> {
    await withCheckedContinuation { continuation in
      let ticket = nextTicket
      nextTicket += 1
      // One that has not said hello yet learns everything from its snapshot.
      let targets = connections.filter { [.snapshot, .live].contains($0.value.session.phase) }
        // One that rests would only open sockets of its own beside those of the one that serves.
        .filter { kind == .delete || !$0.value.isResting }
        .map { FanOut.Target(connection: $0.key, live: $0.value.session.phase == .live) }
      var fanOut = FanOut(kind, to: targets)
      if let outcome = fanOut.begin() {
        continuation.resume(returning: outcome)
        return
      }
      waiting[ticket] = Waiting(fanOut: fanOut, continuation: continuation)
      for target in targets { drive(target.connection, .submit(ticket, request)) }
    }
  }

  private func finish(_ ticket: UInt64, _ outcome: Result<Void, ZDSError>, from connection: UInt64) {
    asking.removeValue(forKey: ticket)?.resume(returning: nil)
    guard let decision = waiting[ticket]?.fanOut.receive(outcome, from: connection) else { return }
    waiting.removeValue(forKey: ticket)?.continuation.resume(returning: decision)
  }

  private func snapshot() -> [OutgoingRequest<NetworkNamespace>] {
    entries.sorted { $0.key < $1.key }.compactMap { uid, entry in
      // Both were encoded once before they were remembered, so neither is too long.
      if let namespace = entry.namespace { return try? .add(uid, entry.info, namespace) }
      return try? .keep(uid)
    }
  }

  // MARK: Connections

  private func watchListener() throws(SystemError) {
    guard let listener else { return }
    acceptWatch = try loop.watch(listener.descriptor.raw, for: .readable) { [weak self] _ in self?.accept() }
  }

  private func accept() {
    do {
      guard let descriptor = try listener?.accept() else { return }
      admit(descriptor)
    } catch {
      observer(.acceptFailed(error))
    }
    acceptWatch?.cancel()
    acceptWatch = nil
    acceptAfterPause()
  }

  private func acceptAfterPause() {
    acceptTimer = loop.schedule(after: limits.acceptPause) { [weak self] in
      guard let self else { return }
      acceptTimer = nil
      do throws(SystemError) { try watchListener() } catch {
        observer(.acceptFailed(error))
        acceptAfterPause()
      }
    }
  }

  private func admit(_ descriptor: consuming Descriptor) {
    do {
      let peer = try PeerCredentials(of: descriptor.raw)
      guard allowedUsers.contains(peer.user) else { return observer(.peerRefused(peer)) }
      guard connections.count < limits.connections else {
        return observer(.tooManyConnections(limit: limits.connections))
      }
      let connection = Connection(socket: try PacketSocket(adopting: descriptor))
      let id = nextConnection
      nextConnection += 1
      connections[id] = connection
      mailboxTimer?.cancel()
      mailboxTimer = nil
      connection.watch = try loop.watch(connection.socket.descriptor.raw, for: [.readable, .peerClosed]) {
        [weak self] _ in self?.receive(id)
      }
      observer(.connected(id, peer))
      arm(AgentSession<NetworkNamespace>.firstDeadline, for: id)
    } catch let error as SystemError { observer(.acceptFailed(error)) } catch {
      observer(.closed(nextConnection, (error as? ZDSError) ?? .closedByPeer))
    }
  }

  private func receive(_ id: UInt64) {
    guard let connection = connections[id] else { return }
    do throws(ZDSError) {
      switch try connection.socket.receive(descriptorsAtMost: Handover.mostSockets) {
      case .nothing: return
      case .endOfFile: drive(id, .endOfFile)
      case .packet(let bytes, let descriptors):
        connection.arrived = descriptors
        drive(id, .packet(bytes, descriptors: descriptors.count))
        connection.arrived = []
      }
    } catch { drive(id, .failed(error)) }
  }

  private func arm(_ number: Int, for id: UInt64) {
    guard let connection = connections[id] else { return }
    connection.timer?.cancel()
    connection.timer = loop.schedule(after: limits.answer) { [weak self] in self?.drive(id, .deadline(number)) }
  }

  /// Feeds one input to a session and does what it says, including what that leads to.
  private func drive(_ id: UInt64, _ first: AgentSession<NetworkNamespace>.Input) {
    var inputs = [first]
    while !inputs.isEmpty, let connection = connections[id] {
      for action in connection.session.receive(inputs.removeFirst()) {
        switch action {
        case .askSnapshot(let hello):
          observer(.hello(id, version: hello.version))
          connection.rank = hello.succession?.started ?? 0
          connection.isResting = hello.succession?.isResting ?? false
          inputs.append(.snapshot(snapshot()))
        case .send(let request):
          do throws(ZDSError) { try send(request, on: connection) } catch { inputs.append(.failed(error)) }
        case .armDeadline(let number): arm(number, for: id)
        case .finished(let ticket, let outcome): finish(ticket, outcome, from: id)
        case .snapshotEntryRefused(let uid, let text):
          connection.refused.insert(uid)
          observer(.snapshotEntryRefused(id, uid, text))
        case .keepSockets(let request): keepSockets(of: request, from: id, connection)
        case .identityTold(let ticket, let isHeld): asking.removeValue(forKey: ticket)?.resume(returning: isHeld)
        case .becameLive:
          observer(.live(id))
          assignDuties()
        case .close(let error): close(id, error)
        }
      }
    }
  }

  private func close(_ id: UInt64, _ error: ZDSError) {
    guard let connection = connections.removeValue(forKey: id) else { return }
    connection.watch?.cancel()
    connection.timer?.cancel()
    connection.socket.shutDown()
    observer(.closed(id, error))
    assignDuties()
    guard connections.isEmpty else { return }
    mailboxTimer?.cancel()
    mailboxTimer = loop.schedule(after: limits.mailboxPatience) { [weak self] in self?.dropMailboxes() }
  }

  /// Nobody has come for what is in them.
  private func dropMailboxes() {
    mailboxTimer = nil
    var count = 0
    for uid in entries.keys { count += entries[uid]?.sockets.dropMailboxes() ?? 0 }
    if count > 0 { observer(.mailboxesDropped(count: count, after: limits.mailboxPatience)) }
  }

  // MARK: Handover

  private func send(_ request: OutgoingRequest<NetworkNamespace>, on connection: Connection) throws(ZDSError) {
    let namespace = request.namespace.map { [$0.descriptor] } ?? []
    guard connection.session.knowsHandover else {
      return try connection.socket.send(request.bytes, passing: namespace)
    }
    var kept: [SharedDescriptor] = []
    if let uid = request.uid, let identity = request.namespace?.identity {
      kept = entries[uid]?.sockets.descriptors(in: identity) ?? []
    }
    let (bytes, sockets) = request.packet(with: kept)
    try connection.socket.send(bytes, passing: namespace + sockets)
  }

  private func keepSockets(
    of request: OutgoingRequest<NetworkNamespace>, from id: UInt64, _ connection: Connection
  ) {
    // Gone meanwhile, or elsewhere: what came is closed.
    guard let uid = request.uid, let namespace = request.namespace?.identity, var entry = entries[uid],
      entry.namespace?.identity == namespace
    else { return }
    // What the only ztunnel does not have any more is nobody's.
    if connections.count == 1 { entry.sockets = KeptSockets() }
    entries[uid]?.sockets = KeptSockets()
    var room = limits.keptSockets - entries.values.reduce(entry.sockets.count) { $0 + $1.sockets.count }
    for descriptor in connection.arrived {
      let before = entry.sockets.count
      if !entry.sockets.keep(descriptor, in: namespace, hasRoom: room > 0) { observer(.socketRefused(id, uid)) }
      room -= entry.sockets.count - before
    }
    entries[uid] = entry
    if connection.refused.remove(uid) != nil { assignDuties() }
  }

  /// The newest ztunnel that serves everything takes new connections; those before it rest, if they know how. When it is
  /// gone the one before it goes on, after it has learnt what was added meanwhile.
  private func assignDuties() {
    let live = connections.filter { $0.value.session.phase == .live }
      .sorted { ($0.value.rank, $0.key) > ($1.value.rank, $1.key) }
    guard listener != nil, let (newest, serving) = live.first else { return }
    if serving.isResting {
      serving.isResting = false
      for request in snapshot() where request.namespace != nil { tell(newest, request) }
      if let request = try? OutgoingRequest<NetworkNamespace>.duty(.accept) { tell(newest, request) }
      observer(.told(newest, .accept))
    }
    // A successor that cannot take over sockets has its own beside them, and theirs must go on being served.
    guard serving.session.knowsHandover, serving.refused.isEmpty else { return }
    for (id, connection) in live.dropFirst() where connection.session.knowsHandover && !connection.isResting {
      connection.isResting = true
      if let request = try? OutgoingRequest<NetworkNamespace>.duty(.rest) { tell(id, request) }
      observer(.told(id, .rest))
    }
  }

  /// Submits a request nobody waits for.
  private func tell(_ id: UInt64, _ request: OutgoingRequest<NetworkNamespace>) {
    let ticket = nextTicket
    nextTicket += 1
    drive(id, .submit(ticket, request))
  }
}
