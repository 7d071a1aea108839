import CLinux
import Glibc
import Linux
import Mesh
import Vocabulary

/// One connection to the pod's SOCKS5 port: a negotiation, then what any outbound connection is (datapath.md §11).
struct SocksProxy {
  let pod: PodWorker
  let client: SharedDescriptor
  let peer: SocketAddress

  /// Time the client may take until its request is complete, and then to take each answer.
  private static let limit = Duration.seconds(10)
  /// Time after which the addresses of another family are not asked for any more.
  private static let namePatience = Duration.seconds(5)

  init(_ pod: PodWorker, _ client: SharedDescriptor, _ peer: SocketAddress) {
    self.pod = pod
    self.client = client
    self.peer = peer
  }

  /// Serves the client: hands the connection to a pump, or refuses it.
  func run() async {
    let start = ContinuousClock.now
    guard let local = try? TCPSocket.localAddress(client.raw) else { return }
    let connection = TrackedConnection(holdsSocket: true)
    // Whatever it waits for then ends.
    connection.abortAction = { [client] _ in _ = shutdown(client.raw, CInt(SHUT_RDWR)) }
    pod.begin(connection)
    let destination: SocketAddress
    do throws(SocksError) {
      destination = try await resolve(try await negotiate())
    } catch {
      pod.deny(from: peer, to: local, .outbound, .socks(error))
      // What the negotiation refuses it has answered itself.
      if case .unknownName = error { await reply(SocksReply(.socks(error))) }
      pod.end(connection)
      return
    }
    let failure = await OutboundProxy(pod, client, peer).carry(to: destination, connection, since: start) {
      () async throws(ProxyError) in
      do throws(SocksError) { try await write(SocksReply.succeeded.bytes, until: .now + Self.limit) } catch {
        throw .socks(error)
      }
    }
    guard let failure else { return }
    await reply(SocksReply(failure))
    pod.end(connection)
  }

  private func negotiate() async throws(SocksError) -> SocksTarget {
    var negotiation = SocksNegotiation()
    let deadline = ContinuousClock.now + Self.limit
    while true {
      let bytes = try await read(atMost: negotiation.bytesWanted, until: deadline)
      if bytes.isEmpty { throw .endedEarly }
      switch negotiation.receive(bytes) {
      case .wantsBytes: continue
      case .answer(let bytes): try await write(bytes, until: deadline)
      case .connect(let target): return target
      case .refuse(let bytes, let error):
        try await write(bytes, until: deadline)
        throw error
      }
    }
  }

  /// A host name is what the pod's DNS proxy says it is (dns.md §6): a service of the mesh by any of its names, or what the
  /// resolvers upstream know.
  private func resolve(_ target: SocksTarget) async throws(SocksError) -> SocketAddress {
    switch target {
    case .address(let address): return address
    case .hostname(let name, let port):
      let begun = ContinuousClock.now
      // The client is on IPv4 loopback, so that it would ask for these first.
      for family in [IPAddress.Family.v4, .v6] {
        // Resolvers that were silent about one family would be about the other: the client has waited long enough.
        guard ContinuousClock.now < begun + Self.namePatience else { break }
        if let ip = await pod.names?.addresses(of: name, family).first { return SocketAddress(ip, port) }
      }
      throw .unknownName(String(name.prefix(253)))
    }
  }

  /// A client that does not take its answer has gone.
  private func reply(_ reply: SocksReply) async {
    try? await write(reply.bytes, until: .now + Self.limit)
  }

  private func read(atMost limit: Int, until deadline: ContinuousClock.Instant) async throws(SocksError) -> [UInt8] {
    do throws(WaitError) { return try await pod.loop.read(atMost: limit, from: client, until: deadline) } catch {
      throw SocksError(error)
    }
  }

  private func write(_ bytes: [UInt8], until deadline: ContinuousClock.Instant) async throws(SocksError) {
    do throws(WaitError) { try await pod.loop.write(bytes, to: client, until: deadline) } catch {
      throw SocksError(error)
    }
  }
}

extension SocksError {
  fileprivate init(_ error: WaitError) {
    switch error {
    case .deadlineExceeded: self = .timeout
    case .system(let error): self = .io(error)
    }
  }
}
