import Glibc
import Linux

/// Netlink sockets on which the kernel tells of changes, in the namespace the calling thread is in when they are made.
public enum ChangeNotice {
  private static let rules: [UInt32] = [7, 8, 11, 19]  // RTNLGRP_IPV4_ROUTE, _IPV4_RULE, _IPV6_ROUTE, _IPV6_RULE
  private static let tables: [UInt32] = [7]  // NFNLGRP_NFTABLES

  /// One for routes and policy rules, one for nftables where the kernel has it. Throws ``SystemError``.
  public static func sockets() throws(SystemError) -> [SharedDescriptor] {
    let routes = try socket(.route, rules)
    // Without nftables there is nothing to be told.
    guard let others = try? socket(.netfilter, tables) else { return [routes] }
    return [routes, others]
  }

  /// Throws away what has been told: what is there is looked at, whatever the notice says.
  public static func drain(_ socket: SharedDescriptor) {
    var byte: UInt8 = 0
    // An overflow is an error once and notices afterwards. Bounded, so that a flood does not keep the loop.
    for _ in 0..<256 where recv(socket.raw, &byte, 1, CInt(MSG_DONTWAIT)) < 0 && errno != ENOBUFS { return }
  }

  private static func socket(_ bus: NetlinkBus, _ groups: [UInt32]) throws(SystemError) -> SharedDescriptor {
    let kind = CInt(SOCK_RAW.rawValue) | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue)
    let descriptor = SharedDescriptor(
      Descriptor(owning: try system("socket", "netlink") { Glibc.socket(AF_NETLINK, kind, bus.rawValue) }))
    // Without a port number of its own the socket would be taken for the kernel, which is not told of its own changes.
    var anyPort = [UInt8](repeating: 0, count: 12)
    anyPort.put(UInt16(AF_NETLINK), at: 0)
    try system("bind", "netlink") {
      anyPort.withUnsafeBytes { bytes in
        bytes.withMemoryRebound(to: sockaddr.self) { bind(descriptor.raw, $0.baseAddress, socklen_t(bytes.count)) }
      }
    }
    let netlink: CInt = 270
    let addMembership: CInt = 1
    for group in groups {
      var group = group
      try system("setsockopt", "netlink group") {
        setsockopt(descriptor.raw, netlink, addMembership, &group, socklen_t(MemoryLayout<UInt32>.size))
      }
    }
    return descriptor
  }
}
