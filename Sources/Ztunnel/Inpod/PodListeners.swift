import Glibc
import Linux
import Logging
import Vocabulary

/// Why a pod's listeners could not be opened.
enum PodListenerError: CodedError, Equatable {
  case namespace(String)
  case socket(port: UInt16, SystemError)

  var code: String {
    switch self {
    case .namespace: "NETNS_FAILED"
    case .socket(_, let error) where error.number == EADDRINUSE: "PORT_IN_USE"
    case .socket: "LISTEN_FAILED"
    }
  }

  var summary: String {
    switch self {
    case .namespace(let text): text
    case .socket(let port, let error): "port \(port) in the pod: \(error.summary)"
    }
  }

  var remedy: String? {
    switch self {
    case .socket(_, let error) where error.number == EADDRINUSE:
      "the application, or another proxy without SO_REUSEPORT, holds the port"
    case .namespace, .socket: nil
    }
  }
}

/// Opens listening sockets inside a pod's network namespace (datapath.md §1.1).
enum PodListeners {
  /// Connections the kernel completes before they are accepted; `net.core.somaxconn` cuts it.
  static let backlog: CInt = 4096

  /// All of a pod's listeners, or none: those in `escrow`, and new ones for what is not among them. What is taken is
  /// removed from `escrow`. Throws ``PodListenerError``.
  static func open(
    in namespace: NetworkNamespace, adopting escrow: inout [EscrowedSocket], _ configuration: ZtunnelConfiguration,
    _ logger: Logger
  ) throws(PodListenerError) -> PodSockets {
    var sockets = PodSockets(listeners: [])
    let roles = ListenerRole.everyPod + (configuration.socks5Enabled ? [.socks] : [])
    for role in roles { sockets.listeners += try open(role, in: namespace, adopting: &escrow, configuration, logger) }
    if let dnsProxy = configuration.dnsProxy {
      try DNSSockets.open(dnsProxy, in: namespace, adopting: &escrow, configuration, into: &sockets)
    }
    sockets.mailboxes = try mailboxes(in: namespace, adopting: &escrow)
    sockets.localCongestionControl = InheritedOptions.set(on: sockets.listeners, configuration)
    return sockets
  }

  /// Several where earlier ztunnels did not know of each other.
  private static func mailboxes(
    in namespace: NetworkNamespace, adopting escrow: inout [EscrowedSocket]
  ) throws(PodListenerError) -> [Mailbox] {
    let adopted = escrow.take { $0.kind == .mailbox }.map { Mailbox(adopting: $0.descriptor) }
    if !adopted.isEmpty { return adopted }
    do { return [try namespace.enter { try Mailbox() }] } catch { throw .namespace("\(error)") }
  }

  /// Several where earlier ztunnels did not know of each other: each has a queue of its own, and none may be closed
  /// before it is empty.
  private static func open(
    _ role: ListenerRole, in namespace: NetworkNamespace, adopting escrow: inout [EscrowedSocket],
    _ configuration: ZtunnelConfiguration, _ logger: Logger
  ) throws(PodListenerError) -> [PodListener] {
    let address = { (family: IPAddress.Family) in
      SocketAddress(role == .socks ? .loopback(family) : .any(family), role.rawValue)
    }
    let adopted = escrow.take {
      if case .listener(let family, let bound) = $0.kind { bound == address(family) } else { false }
    }
    func has(_ family: IPAddress.Family) -> Bool {
      adopted.contains { if case .listener(family, _) = $0.identity.kind { true } else { false } }
    }
    var listeners: [PodListener] = []
    do throws(SystemError) {
      for socket in adopted {
        if let mark = configuration.packetMark { try TCPSocket.setMark(socket.descriptor.raw, mark) }
        let isTransparent = try makeTransparent(socket.descriptor, configuration.preservesSource)
        listeners.append(PodListener(role: role, socket: socket.descriptor, isTransparent: isTransparent))
      }
    } catch { throw .socket(port: role.rawValue, error) }
    let wantsIPv6 = configuration.ipv6Enabled && role != .socks
    if has(.v6) || !adopted.isEmpty && !wantsIPv6 { return listeners }

    let (socket, family) = try make(ipv6: wantsIPv6, in: namespace)
    // A kernel without IPv6: there is nothing to add to what was adopted.
    if has(family) { return listeners }
    do throws(SystemError) {
      if let mark = configuration.packetMark { try TCPSocket.setMark(socket.raw, mark) }
      if configuration.sharesPorts {
        try TCPSocket.setReusePort(socket.raw)
      } else {
        try TCPSocket.setReuseAddress(socket.raw)
      }
      let isTransparent = try makeTransparent(socket, configuration.preservesSource)
      try TCPSocket.bind(socket.raw, family, to: address(family))
      try TCPSocket.listen(socket.raw, backlog: backlog)
      logger.debug(
        "listener established",
        metadata: ["component": "\(role)", "port": "\(role.rawValue)", "transparent": "\(isTransparent)"])
      listeners.append(PodListener(role: role, socket: socket, isTransparent: isTransparent))
      return listeners
    } catch {
      throw .socket(port: role.rawValue, error)
    }
  }

  private static func make(
    ipv6: Bool, in namespace: NetworkNamespace
  ) throws(PodListenerError) -> (SharedDescriptor, IPAddress.Family) {
    do { return try namespace.enter { try makeSocket(ipv6: ipv6) } } catch { throw .namespace("\(error)") }
  }

  /// An IPv6 socket takes IPv4 connections too; a kernel without IPv6 gives an IPv4 one.
  private static func makeSocket(ipv6: Bool) throws(SystemError) -> (SharedDescriptor, IPAddress.Family) {
    if ipv6 {
      do throws(SystemError) {
        return (SharedDescriptor(try TCPSocket.make(.v6)), .v6)
      } catch  where error.number == EAFNOSUPPORT {}
    }
    return (SharedDescriptor(try TCPSocket.make(.v4)), .v4)
  }

  private static func makeTransparent(_ socket: SharedDescriptor, _ wish: SourcePreservation) throws(SystemError)
    -> Bool
  {
    switch wish {
    case .off: return false
    case .required:
      try TCPSocket.setTransparent(socket.raw)
      return true
    case .auto:
      do throws(SystemError) { try TCPSocket.setTransparent(socket.raw) } catch { return false }
      return true
    }
  }
}

extension [EscrowedSocket] {
  /// Takes out what fits.
  mutating func take(where fits: (WaitingSocket) -> Bool) -> [EscrowedSocket] {
    let taken = filter { fits($0.identity) }
    removeAll { fits($0.identity) }
    return taken
  }
}
