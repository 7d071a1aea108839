import CLinux
import Glibc
import Vocabulary

/// Keep-alive probing of a TCP connection (datapath.md §1.1).
public struct TCPKeepAlive: Equatable, Sendable {
  /// Seconds of silence before the first probe.
  public var idle: Int32
  /// Seconds between probes.
  public var interval: Int32
  /// Unanswered probes after which the connection is dead.
  public var probes: Int32
  /// Also bound unacknowledged data by the same time (TCP_USER_TIMEOUT).
  public var limitsUnacknowledgedData: Bool

  public init(idle: Int32 = 180, interval: Int32 = 180, probes: Int32 = 9, limitsUnacknowledgedData: Bool = false) {
    self.idle = idle
    self.interval = interval
    self.probes = probes
    self.limitsUnacknowledgedData = limitsUnacknowledgedData
  }
}

/// A connection taken from a listener's backlog.
public struct AcceptedConnection: ~Copyable {
  public let descriptor: Descriptor
  /// The client, IPv4-mapped IPv6 unwrapped; nil when it has gone already.
  public let peer: SocketAddress?

  /// Gives up both parts.
  public consuming func take() -> Descriptor { descriptor }
}

/// Non-blocking TCP sockets: functions over descriptors, so that owners keep owning them.
public enum TCPSocket {
  /// A new non-blocking, close-on-exec socket in the calling thread's namespace. Throws ``SystemError``.
  public static func make(_ family: IPAddress.Family) throws(SystemError) -> Descriptor {
    Descriptor(
      owning: try system("socket") {
        socket(
          family == .v4 ? AF_INET : AF_INET6,
          CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
      })
  }

  // MARK: Options

  /// SO_MARK: the packet mark by which redirection rules know the proxy's own traffic. Needs CAP_NET_ADMIN.
  public static func setMark(_ raw: CInt, _ mark: UInt32) throws(SystemError) {
    try set(raw, SOL_SOCKET, SO_MARK, CInt(bitPattern: mark), "SO_MARK")
  }

  /// SO_REUSEADDR.
  public static func setReuseAddress(_ raw: CInt) throws(SystemError) {
    try set(raw, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR")
  }

  /// SO_REUSEPORT: several processes of one user share the port.
  public static func setReusePort(_ raw: CInt) throws(SystemError) {
    try set(raw, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT")
  }

  /// IP_TRANSPARENT, an IPv4-level option even on IPv6 sockets: lets it accept for, and bind to, foreign addresses.
  public static func setTransparent(_ raw: CInt) throws(SystemError) {
    try set(raw, CInt(IPPROTO_IP), IP_TRANSPARENT, 1, "IP_TRANSPARENT")
  }

  /// What a socket needs before it is bound to an address of another host (datapath.md §9). It implies IP_FREEBIND.
  public static func setSpoofing(_ raw: CInt, _ family: IPAddress.Family) throws(SystemError) {
    switch family {
    case .v4: try setTransparent(raw)
    case .v6: try set(raw, CInt(IPPROTO_IPV6), IPV6_TRANSPARENT, 1, "IPV6_TRANSPARENT")
    }
  }

  /// IP_BIND_ADDRESS_NO_PORT: the source port is chosen at connect, when the whole 4-tuple is known, so that many
  /// connections from one borrowed address to different places do not use up the ports.
  public static func setBindWithoutPort(_ raw: CInt) throws(SystemError) {
    try set(raw, CInt(IPPROTO_IP), IP_BIND_ADDRESS_NO_PORT, 1, "IP_BIND_ADDRESS_NO_PORT")
  }

  /// TCP_NODELAY. Failure is ignored: the socket works without.
  public static func setNoDelay(_ raw: CInt) {
    try? set(raw, CInt(IPPROTO_TCP), TCP_NODELAY, 1, "TCP_NODELAY")
  }

  /// TCP's congestion control, as the kernel names it; nil when it cannot be read.
  public static func congestionControl(_ raw: CInt) -> String? {
    var name = [UInt8](repeating: 0, count: 16)
    var length = socklen_t(name.count)
    guard getsockopt(raw, CInt(IPPROTO_TCP), TCP_CONGESTION, &name, &length) == 0 else { return nil }
    return String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
  }

  /// TCP_CONGESTION. What is accepted from a listener inherits it. False when the kernel does not have `name`.
  @discardableResult
  public static func setCongestionControl(_ raw: CInt, _ name: String) -> Bool {
    setsockopt(raw, CInt(IPPROTO_TCP), TCP_CONGESTION, name, socklen_t(name.utf8.count)) == 0
  }

  /// SO_KEEPALIVE and its times. Failures are ignored: the socket works without.
  public static func setKeepAlive(_ raw: CInt, _ settings: TCPKeepAlive) {
    try? set(raw, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE")
    try? set(raw, CInt(IPPROTO_TCP), TCP_KEEPIDLE, settings.idle, "TCP_KEEPIDLE")
    try? set(raw, CInt(IPPROTO_TCP), TCP_KEEPINTVL, settings.interval, "TCP_KEEPINTVL")
    try? set(raw, CInt(IPPROTO_TCP), TCP_KEEPCNT, settings.probes, "TCP_KEEPCNT")
    if settings.limitsUnacknowledgedData {
      let seconds = Int64(settings.idle) + Int64(settings.interval) * Int64(settings.probes)
      try? set(raw, CInt(IPPROTO_TCP), TCP_USER_TIMEOUT, CInt(clamping: seconds * 1000), "TCP_USER_TIMEOUT")
    }
  }

  /// Makes the coming close a reset instead of an orderly end; or an orderly end again.
  public static func setResetOnClose(_ raw: CInt, _ isOn: Bool = true) {
    var value = linger(l_onoff: isOn ? 1 : 0, l_linger: 0)
    _ = setsockopt(raw, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
  }

  private static func set(_ raw: CInt, _ level: CInt, _ option: CInt, _ value: CInt, _ name: String)
    throws(SystemError)
  {
    var value = value
    try system("setsockopt", name) { setsockopt(raw, level, option, &value, socklen_t(MemoryLayout<CInt>.size)) }
  }

  /// Whether it is a TCP socket at all. Throws ``SystemError`` where it is no socket.
  public static func isStream(_ raw: CInt) throws(SystemError) -> Bool {
    try option(raw, SO_PROTOCOL) == CInt(IPPROTO_TCP)
  }

  /// A number at the level of sockets, of a socket of any kind. Throws ``SystemError``.
  static func option(_ raw: CInt, _ name: CInt) throws(SystemError) -> CInt {
    var value: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    try system("getsockopt") { getsockopt(raw, SOL_SOCKET, name, &value, &length) }
    return value
  }

  // MARK: Addresses

  /// Binds to `address`. Throws ``SystemError`` naming the address.
  public static func bind(_ raw: CInt, _ family: IPAddress.Family, to address: SocketAddress) throws(SystemError) {
    let kernel = KernelAddress(address, for: family)
    try system("bind", "\(address)") { kernel.withPointer { Glibc.bind(raw, $0, $1) } }
  }

  /// Starts accepting. `backlog` is cut to `net.core.somaxconn` by the kernel.
  public static func listen(_ raw: CInt, backlog: CInt) throws(SystemError) {
    try system("listen") { Glibc.listen(raw, backlog) }
  }

  /// Starts connecting. True when done at once, false when it goes on in the background. Throws ``SystemError``.
  public static func connect(_ raw: CInt, _ family: IPAddress.Family, to address: SocketAddress) throws(SystemError)
    -> Bool
  {
    let kernel = KernelAddress(address, for: family)
    if kernel.withPointer({ Glibc.connect(raw, $0, $1) }) == 0 { return true }
    // An interrupted connect goes on in the background too; calling it again would only say EALREADY.
    if errno == EINPROGRESS || errno == EINTR { return false }
    throw SystemError("connect", errno, subject: "\(address)")
  }

  /// How far a connect in the background is.
  public enum ConnectProgress: Sendable {
    case underWay
    case connected
    /// Over, and not well: ``pendingError(_:)`` says why.
    case failed
  }

  /// How far a connect is that went on in the background: on one machine it usually is over already.
  public static func connectProgress(_ raw: CInt) -> ConnectProgress {
    var entry = pollfd(fd: raw, events: Int16(POLLOUT), revents: 0)
    guard poll(&entry, 1, 0) > 0 else { return .underWay }
    return entry.revents & Int16(POLLERR | POLLHUP) == 0 ? .connected : .failed
  }

  /// The error a background operation left on the socket, nil when there is none; reading clears it.
  public static func pendingError(_ raw: CInt) -> CInt? {
    var number: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    guard getsockopt(raw, SOL_SOCKET, SO_ERROR, &number, &length) == 0 else { return errno }
    return number == 0 ? nil : number
  }

  /// A connection from the backlog with its peer's address, non-blocking and close-on-exec; nil when there is none.
  /// Throws ``SystemError``; `ECONNABORTED` means only that this client has gone already.
  public static func accept(_ raw: CInt) throws(SystemError) -> AcceptedConnection? {
    var kernel = KernelAddress()
    do throws(SystemError) {
      let accepted = try system("accept4") {
        kernel.withMutablePointer { ambient_accept(raw, $0, $1) }
      }
      return AcceptedConnection(descriptor: Descriptor(owning: accepted), peer: kernel.address)
    } catch  where error.number == EAGAIN {
      return nil
    }
  }

  /// The local address, IPv4-mapped IPv6 unwrapped. Throws ``SystemError``.
  public static func localAddress(_ raw: CInt) throws(SystemError) -> SocketAddress {
    var kernel = KernelAddress()
    try system("getsockname") { kernel.withMutablePointer { getsockname(raw, $0, $1) } }
    guard let address = kernel.address else { throw SystemError("getsockname", EAFNOSUPPORT) }
    return address
  }

  /// The other end's address, IPv4-mapped IPv6 unwrapped; nil when it is gone.
  public static func peerAddress(_ raw: CInt) -> SocketAddress? {
    var kernel = KernelAddress()
    guard kernel.withMutablePointer({ getpeername(raw, $0, $1) }) == 0 else { return nil }
    return kernel.address
  }

  /// Where the client wanted to go before REDIRECT, IPv4 first, then IPv6; nil when the connection was not
  /// redirected (datapath.md §2).
  public static func originalDestination(_ raw: CInt) -> SocketAddress? {
    var four = sockaddr_in()
    if ambient_original_destination_v4(raw, &four) == 0 {
      return SocketAddress(.v4(UInt32(bigEndian: four.sin_addr.s_addr)), UInt16(bigEndian: four.sin_port))
    }
    var six = sockaddr_in6()
    if ambient_original_destination_v6(raw, &six) == 0 {
      return withUnsafeBytes(of: six.sin6_addr) { IPAddress(bytes: $0) }
        .map { SocketAddress($0, UInt16(bigEndian: six.sin6_port)).canonical }
    }
    return nil
  }

  /// Ends the sending direction. An error means the connection is gone, which the reading side reports better.
  public static func shutdownWrite(_ raw: CInt) {
    _ = shutdown(raw, CInt(SHUT_WR))
  }
}
