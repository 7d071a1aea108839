import DNS
import Glibc
import Linux
import Mesh
import Vocabulary

/// The DNS proxy of one pod on one worker (dns.md): answers what the mesh knows, forwards everything else unchanged.
final class PodDNS {
  enum Transport { case datagrams, stream }

  private let pod: PodProxy
  private unowned let worker: Worker
  private let resolver: MeshResolver
  private let log: DNSQueryLog
  private let upstream: UpstreamContext
  private let mostQueries: Int
  private let mostQueriesOfWorker: Int
  private var watches: [Watch] = []
  private var listeners: [DatagramListener] = []
  private var exchanges: [ObjectIdentifier: any UpstreamExchange] = [:]
  private var connections: [ObjectIdentifier: DNSConnection] = [:]
  private var waiting = 0
  private var isStopped = false
  private var whenIdle: (() -> Void)?

  /// Queries of one pod that may wait at once, for the pod's record or for upstream, shared out among the workers.
  private static let mostQueriesOfPod = 512
  /// Queries of all pods that may be under way upstream at once, shared out likewise: each has up to two sockets, and
  /// the process's descriptors are for connections above all.
  private static let mostQueriesOfProcess = 4096
  /// TCP connections of one pod on one worker.
  private static let mostConnections = 128
  /// Time a query waits for the control plane, where the mesh is learnt on demand: less than after which clients ask again.
  private static let learningLimit = Duration.seconds(2)
  /// Datagrams taken in one turn, so that workers share a burst.
  private static let turn = 64

  init(_ pod: PodProxy, _ resolver: MeshResolver, worker: Worker) {
    self.pod = pod
    self.worker = worker
    self.resolver = resolver
    log = DNSQueryLog(pod.info)
    let configuration = worker.context.configuration
    upstream = UpstreamContext(
      loop: worker.loop, namespace: pod.namespace, mark: configuration.packetMark, nameServers: NameServers())
    mostQueries = max(32, Self.mostQueriesOfPod / configuration.workerThreads)
    mostQueriesOfWorker = max(32, Self.mostQueriesOfProcess / configuration.workerThreads)
  }

  // MARK: Life

  /// Starts to answer over UDP. Throws ``SystemError``.
  func start(_ listeners: [DatagramListener]) throws(SystemError) {
    self.listeners = listeners
    try resume()
  }

  /// Leaves queries in the sockets' queues, for whoever else has them.
  func rest() {
    for watch in watches { watch.cancel() }
    watches = []
  }

  /// Takes queries again. Throws ``SystemError``.
  func resume() throws(SystemError) {
    guard watches.isEmpty else { return }
    for listener in listeners {
      watches.append(
        try worker.loop.watch(listener.socket.raw, for: .readable, mode: .shared) { [unowned self] _ in
          receive(listener, atMost: Self.turn)
        })
    }
  }

  /// Goes on until no query is under way: with the port shared, what has arrived here gets no other answer. `pod` is
  /// kept from ending until then, or until its deadline. With `leavingQueries`, somebody else has the sockets too.
  func finish(_ pod: PodWorker, leavingQueries: Bool) {
    for connection in Array(connections.values) { connection.finish() }
    if leavingQueries {
      rest()
    } else {
      for listener in listeners { receive(listener, atMost: Self.turn) }
    }
    guard isBusy else { return cut() }
    let connection = TrackedConnection()
    connection.abortAction = { [self] _ in
      cut()
      pod.end(connection)
    }
    whenIdle = { [self] in
      cut()
      pod.end(connection)
    }
    pod.begin(connection)
  }

  /// Stops at once; may be called again.
  func cut() {
    isStopped = true
    whenIdle = nil
    for watch in watches { watch.cancel() }
    watches = []
    listeners = []
    for exchange in Array(exchanges.values) { exchange.cancel() }
    for connection in Array(connections.values) { connection.cut() }
  }

  private var isBusy: Bool { waiting > 0 || !exchanges.isEmpty || !connections.isEmpty }

  private func settle() {
    if !isBusy { whenIdle?() }
  }

  // MARK: Clients

  private func receive(_ listener: DatagramListener, atMost limit: Int) {
    for _ in 0..<limit {
      let datagram: (count: Int, sender: SocketAddress?)?
      do throws(SystemError) { datagram = try UDPSocket.receive(listener.socket.raw, into: worker.scratch) } catch {
        // What became of an earlier answer; the next call gets the next datagram.
        continue
      }
      guard let datagram else { return }
      guard let client = datagram.sender, client.port != 0, client.ip != .any(client.ip.family) else { continue }
      answer([UInt8](worker.scratch[..<datagram.count]), over: .datagrams) { bytes in
        // A full socket drops it, as the network might: clients ask again.
        if let bytes { try? UDPSocket.send(listener.socket.raw, listener.family, bytes, to: client) }
      }
    }
  }

  /// Serves a TCP connection.
  func accept(_ socket: SharedDescriptor) {
    guard !isStopped, connections.count < Self.mostConnections else { return }
    let connection = DNSConnection(MessageStream(socket, loop: worker.loop, scratch: worker.scratch), self)
    let key = ObjectIdentifier(connection)
    connections[key] = connection
    worker.loop.spawn { [self] in
      await connection.run()
      connections[key] = nil
      settle()
    }
  }

  // MARK: Questions

  /// The addresses that the pod's own queries for a host would find, for connections that come with a name. Empty where
  /// there are none.
  func addresses(of hostname: String, _ family: IPAddress.Family) async -> [IPAddress] {
    guard let lookup = AddressLookup(hostname: hostname, family, id: UInt16.random(in: 0 ... .max)) else { return [] }
    for transport in [Transport.datagrams, .stream] {
      let reply = await withUnsafeContinuation { (continuation: UnsafeContinuation<[UInt8]?, Never>) in
        answer(lookup.message, over: transport) { continuation.resume(returning: $0) }
      }
      guard let reply, case .addresses(let addresses) = lookup.read(reply) else { continue }
      return addresses
    }
    return []
  }

  /// Answers one message. `reply` is called once, with nil when there is to be no answer.
  func answer(_ message: [UInt8], over transport: Transport, _ reply: @escaping ([UInt8]?) -> Void) {
    switch Intake(message) {
    case .ignored: reply(nil)
    case .rejected(let bytes): reply(bytes)
    case .other(let message): forward(message, nil, over: transport, reply)
    case .query(let query):
      let info = pod.info
      if let client = worker.mesh.localWorkload(
        namespace: info.namespace, name: info.name, serviceAccount: info.serviceAccount),
        resolver.unsettledKeys(for: query.question, client: client, in: worker.mesh).isEmpty
      {
        return answer(query, for: client, over: transport, reply)
      }
      guard isRoom else {
        return conclude(.failure(.tooManyQueries), message, query, transport, reply)
      }
      guard !isStopped else { return reply(nil) }
      waiting += 1
      worker.loop.spawn { [self] in
        let client = try? await worker.localWorkload(info)
        if let client {
          // What cannot be learnt in time is asked of the resolver upstream, as what is not in the mesh.
          _ = await worker.learn(for: pod, within: Self.learningLimit) { [resolver] mesh in
            resolver.unsettledKeys(for: query.question, client: client, in: mesh)
          }
        }
        waiting -= 1
        if let client {
          answer(query, for: client, over: transport, reply)
        } else {
          log.write(query.question, "the pod's own workload is not known")
          reply(Response.failure(.serverFailure, to: query))
        }
        settle()
      }
    }
  }

  private func answer(
    _ query: Query, for client: Workload, over transport: Transport, _ reply: @escaping ([UInt8]?) -> Void
  ) {
    let limit = transport == .stream ? Response.streamLimit : min(query.datagramLimit, Response.datagramLimit)
    let resolution = resolver.resolve(
      query.question, for: client, in: worker.mesh, atMost: Response.addresses(in: limit), using: &worker.random)
    switch resolution {
    case .forward: forward(query.message, query, over: transport, reply)
    case .answer(let answer, let reason):
      log.write(query.question, reason.rawValue, endpoints: answer.addresses.count)
      reply(Response.answer(answer, to: query, limit: limit))
    }
  }

  // MARK: Upstream

  private var isRoom: Bool {
    waiting + exchanges.count < mostQueries && worker.forwardedQueries < mostQueriesOfWorker
  }

  private func begin(_ exchange: any UpstreamExchange) {
    exchanges[ObjectIdentifier(exchange)] = exchange
    worker.forwardedQueries += 1
  }

  private func end(_ exchange: any UpstreamExchange) {
    exchanges[ObjectIdentifier(exchange)] = nil
    worker.forwardedQueries -= 1
  }

  private func forward(
    _ message: [UInt8], _ query: Query?, over transport: Transport, _ reply: @escaping ([UInt8]?) -> Void
  ) {
    guard isRoom else {
      return conclude(.failure(.tooManyQueries), message, query, transport, reply)
    }
    guard !isStopped else { return reply(nil) }
    switch transport {
    case .datagrams:
      let exchange = UpstreamDatagrams(message, query?.question, upstream, scratch: worker.scratch)
      begin(exchange)
      exchange.start { [self] result in
        end(exchange)
        conclude(result, message, query, transport, reply)
        settle()
      }
    case .stream:
      let exchange = UpstreamStream(message, query?.question, upstream, scratch: worker.scratch)
      begin(exchange)
      worker.loop.spawn { [self] in
        let result = await exchange.run()
        end(exchange)
        conclude(result, message, query, transport, reply)
        settle()
      }
    }
  }

  private func conclude(
    _ result: Result<[UInt8], UpstreamError>, _ message: [UInt8], _ query: Query?, _ transport: Transport,
    _ reply: ([UInt8]?) -> Void
  ) {
    switch result {
    case .success(let bytes):
      log.write(query?.question, "forwarded")
      if let query, transport == .datagrams, bytes.count > query.datagramLimit {
        return reply(Response.truncated(query))
      }
      reply(bytes)
    // Without an answer the client asks again, and finds another proxy.
    case .failure(.stopped): reply(nil)
    case .failure(let error):
      log.write(query?.question, "forwarding failed (\(error.summary))")
      if let query { return reply(Response.failure(.serverFailure, to: query)) }
      reply(MessageHeader(message).map { Response.failure(.serverFailure, to: $0) })
    }
  }
}
