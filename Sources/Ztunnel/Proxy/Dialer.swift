import Glibc
import Linux
import Vocabulary

/// Why a TCP connection could not be made.
enum DialError: CodedError, Equatable {
  case timeout(SocketAddress)
  case refused(SystemError)
  /// The socket could not be made in the pod's namespace.
  case namespace(String)
  /// The client's address could not be used as source, and the configuration insists on it.
  case sourceNotPreserved(SystemError)

  var code: String {
    switch self {
    case .timeout: "CONNECT_TIMEOUT"
    case .refused(let error): error.code
    case .namespace: "NETNS_FAILED"
    case .sourceNotPreserved: "SOURCE_NOT_PRESERVED"
    }
  }

  var summary: String {
    switch self {
    case .timeout(let address): "connect \(address): no answer in time"
    case .refused(let error): error.summary
    case .namespace(let text): text
    case .sourceNotPreserved(let error): "the client's address could not be preserved: \(error.summary)"
    }
  }
}

/// Makes TCP connections from inside a pod's network namespace (datapath.md §1.1, §9). One for each loop.
struct Dialer {
  let loop: EventLoop
  let configuration: ZtunnelConfiguration
  let reserve: DescriptorReserve

  /// Time a TCP connect may take (datapath.md §15).
  static let limit = Duration.seconds(10)
  private static let shortageRest = Duration.milliseconds(50)

  /// Connects to `target`. With `source`, the connection comes from that address, though it is another host's; where
  /// that fails it comes from the pod's own address, unless the configuration insists. `congestionControl` replaces the
  /// pod's default. Throws ``DialError``.
  func connect(
    to target: SocketAddress, preserving source: IPAddress? = nil, congestionControl: String? = nil,
    in namespace: NetworkNamespace
  ) async throws(DialError) -> SharedDescriptor {
    // A pod that calls itself would otherwise have both ends of the connection at one address and port pair.
    let source = source.flatMap { $0 == target.ip ? nil : $0 }
    var attempt = 0
    while true {
      let socket = try await socket(target.ip.family, in: namespace)
      do throws(SystemError) {
        try prepare(socket.raw, congestionControl)
      } catch { throw .refused(error) }
      let ports = source == nil ? nil : PreservedPort.range(attempt)
      if let source { try preserve(source, ports, on: socket.raw, target.ip.family) }
      do throws(SystemError) {
        if try TCPSocket.connect(socket.raw, target.ip.family, to: target) { return socket }
      } catch {
        guard ports != nil, error.number == EADDRNOTAVAIL else { throw .refused(error) }
        attempt += 1
        continue
      }
      try await finish(socket.raw, to: target)
      return socket
    }
  }

  private func prepare(_ raw: CInt, _ congestionControl: String?) throws(SystemError) {
    if let mark = configuration.packetMark, mark != 0 { try TCPSocket.setMark(raw, mark) }
    TCPSocket.setNoDelay(raw)
    if let keepAlive = configuration.keepAlive { TCPSocket.setKeepAlive(raw, keepAlive) }
    if let congestionControl { TCPSocket.setCongestionControl(raw, congestionControl) }
  }

  /// Waits for a connect that goes on in the background.
  private func finish(_ raw: CInt, to target: SocketAddress) async throws(DialError) {
    switch TCPSocket.connectProgress(raw) {
    case .connected: return
    case .failed: break
    case .underWay:
      do throws(WaitError) { try await loop.writable(raw, until: .now + Self.limit) } catch {
        switch error {
        case .deadlineExceeded: throw .timeout(target)
        case .system(let error): throw .refused(error)
        }
      }
    }
    if let number = TCPSocket.pendingError(raw) {
      throw number == ETIMEDOUT ? .timeout(target) : .refused(SystemError("connect", number, subject: "\(target)"))
    }
  }

  /// A socket inside the namespace. When there are no descriptors left it takes one that was set aside, and then waits:
  /// the connection it is for has been accepted already, and others end meanwhile.
  private func socket(_ family: IPAddress.Family, in namespace: NetworkNamespace) async throws(DialError)
    -> SharedDescriptor
  {
    let deadline = ContinuousClock.now + Self.limit
    while true {
      do {
        return SharedDescriptor(try namespace.enter { try TCPSocket.make(family) })
      } catch {
        guard let shortage = error as? SystemError, [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(shortage.number),
          ContinuousClock.now < deadline
        else { throw .namespace("\(error)") }
        if shortage.number == EMFILE, reserve.release() { continue }
      }
      await loop.sleep(for: Self.shortageRest)
    }
  }

  /// Gives the connection another host's address, and one of `ports` where one of a few is free; nil leaves the port to the
  /// kernel.
  private func preserve(_ source: IPAddress, _ ports: ClosedRange<UInt16>?, on raw: CInt, _ family: IPAddress.Family)
    throws(DialError)
  {
    do throws(SystemError) {
      guard source.family == family else { throw SystemError("bind", EAFNOSUPPORT, subject: "\(source)") }
      try TCPSocket.setSpoofing(raw, family)
      try TCPSocket.setBindWithoutPort(raw)
      if let ports {
        try TCPSocket.setReuseAddress(raw)
        for _ in 0..<PreservedPort.draws {
          do throws(SystemError) {
            return try TCPSocket.bind(raw, family, to: SocketAddress(source, .random(in: ports)))
          } catch  where error.number == EADDRINUSE {}
        }
      }
      try TCPSocket.bind(raw, family, to: SocketAddress(source, 0))
    } catch {
      if configuration.preservesSource == .required { throw .sourceNotPreserved(error) }
    }
  }
}
