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

  /// All of a pod's listeners, or none. Throws ``PodListenerError``.
  static func open(in namespace: NetworkNamespace, _ configuration: ZtunnelConfiguration, _ logger: Logger)
    throws(PodListenerError) -> PodSockets
  {
    var sockets = PodSockets(listeners: [])
    for role in ListenerRole.everyPod { sockets.listeners.append(try open(role, in: namespace, configuration, logger)) }
    if configuration.socks5Enabled {
      sockets.listeners.append(try open(.socks, in: namespace, configuration, logger))
    }
    if let dnsProxy = configuration.dnsProxy {
      try DNSSockets.open(dnsProxy, in: namespace, configuration, into: &sockets)
    }
    return sockets
  }

  private static func open(
    _ role: ListenerRole, in namespace: NetworkNamespace, _ configuration: ZtunnelConfiguration, _ logger: Logger
  ) throws(PodListenerError) -> PodListener {
    let made: (SharedDescriptor, IPAddress.Family)
    do { made = try namespace.enter { try makeSocket(ipv6: configuration.ipv6Enabled && role != .socks) } } catch {
      throw .namespace("\(error)")
    }
    let (socket, family) = made
    do throws(SystemError) {
      if let mark = configuration.packetMark { try TCPSocket.setMark(socket.raw, mark) }
      if configuration.sharesPorts {
        try TCPSocket.setReusePort(socket.raw)
      } else {
        try TCPSocket.setReuseAddress(socket.raw)
      }
      let isTransparent = try makeTransparent(socket, configuration.preservesSource)
      let address: IPAddress = role == .socks ? .loopback(family) : .any(family)
      try TCPSocket.bind(socket.raw, family, to: SocketAddress(address, role.rawValue))
      try TCPSocket.listen(socket.raw, backlog: backlog)
      logger.debug(
        "listener established",
        metadata: ["component": "\(role)", "port": "\(role.rawValue)", "transparent": "\(isTransparent)"])
      return PodListener(role: role, socket: socket, isTransparent: isTransparent)
    } catch {
      throw .socket(port: role.rawValue, error)
    }
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
