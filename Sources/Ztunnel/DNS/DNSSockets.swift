import Glibc
import Linux
import Vocabulary

/// Opens the sockets of the DNS proxy inside a pod (dns.md §1, datapath.md §1.1).
enum DNSSockets {
  /// UDP and TCP at every address, or none: those in `escrow`, and new ones for what is not among them. Throws
  /// ``PodListenerError``.
  static func open(
    _ proxy: DNSProxyConfiguration, in namespace: NetworkNamespace, adopting escrow: inout [EscrowedSocket],
    _ configuration: ZtunnelConfiguration, into sockets: inout PodSockets
  ) throws(PodListenerError) {
    for address in proxy.addresses {
      let family = address.ip.family
      if family == .v6, !hasLoopbackIPv6(namespace) { continue }
      let adopted = escrow.take { $0.address == address }
      for socket in adopted {
        switch socket.identity.kind {
        case .datagrams: sockets.datagrams.append(DatagramListener(socket: socket.descriptor, family: family))
        case .listener:
          sockets.listeners.append(PodListener(role: .dns, socket: socket.descriptor, isTransparent: false))
        // Has no address.
        case .mailbox: break
        }
      }
      // They are made and kept in pairs.
      if !adopted.isEmpty { continue }
      let datagrams = try make(in: namespace) { () throws(SystemError) in try UDPSocket.make(family) }
      let stream = try make(in: namespace) { () throws(SystemError) in try TCPSocket.make(family) }
      do throws(SystemError) {
        for socket in [datagrams, stream] {
          if let mark = configuration.packetMark { try TCPSocket.setMark(socket.raw, mark) }
          if configuration.sharesPorts { try TCPSocket.setReusePort(socket.raw) }
        }
        if !configuration.sharesPorts { try TCPSocket.setReuseAddress(stream.raw) }
        try TCPSocket.bind(datagrams.raw, family, to: address)
        try TCPSocket.bind(stream.raw, family, to: address)
        try TCPSocket.listen(stream.raw, backlog: PodListeners.backlog)
      } catch {
        throw .socket(port: address.port, error)
      }
      sockets.datagrams.append(DatagramListener(socket: datagrams, family: family))
      sockets.listeners.append(PodListener(role: .dns, socket: stream, isTransparent: false))
    }
  }

  private static func make(
    in namespace: NetworkNamespace, _ body: () throws(SystemError) -> Descriptor
  ) throws(PodListenerError) -> SharedDescriptor {
    do { return SharedDescriptor(try namespace.enter { try body() }) } catch { throw .namespace("\(error)") }
  }

  /// False where the kernel has no IPv6 or the pod's loopback does without it.
  private static func hasLoopbackIPv6(_ namespace: NetworkNamespace) -> Bool {
    // What is under /proc/sys/net is that of the namespace of the thread that opens it.
    let path = "/proc/sys/net/ipv6/conf/lo/disable_ipv6"
    guard let file = try? namespace.enter({ SharedDescriptor(try Descriptor.open(path, O_RDONLY)) }) else {
      return false
    }
    var value: UInt8 = 0
    return read(file.raw, &value, 1) == 1 && value == UInt8(ascii: "0")
  }
}
