import CLinux
import Glibc
import Vocabulary

/// Addresses of network interfaces.
public enum InterfaceAddresses {
  /// Those of the namespace the calling thread is in, loopback included, IPv4-mapped ones unwrapped. Throws
  /// ``SystemError``.
  public static func current() throws(SystemError) -> Set<IPAddress> {
    var first: UnsafeMutablePointer<ifaddrs>?
    try system("getifaddrs") { getifaddrs(&first) }
    defer { freeifaddrs(first) }
    var addresses: Set<IPAddress> = []
    var next = first
    while let entry = next?.pointee {
      next = entry.ifa_next
      guard let raw = UnsafeRawPointer(entry.ifa_addr) else { continue }
      switch CInt(raw.loadUnaligned(as: sa_family_t.self)) {
      case AF_INET:
        addresses.insert(.v4(UInt32(bigEndian: raw.loadUnaligned(as: sockaddr_in.self).sin_addr.s_addr)))
      case AF_INET6:
        var six = raw.loadUnaligned(as: sockaddr_in6.self).sin6_addr
        if let address = withUnsafeBytes(of: &six, { IPAddress(bytes: $0) }) { addresses.insert(address.canonical) }
      default: continue
      }
    }
    return addresses
  }
}

extension NetworkNamespace {
  /// Whether an interface inside has one of `addresses`. Blocks for a moment. Throws ``NetworkNamespaceError`` or
  /// ``SystemError``.
  public func holds(anyOf addresses: some Sequence<IPAddress>) throws -> Bool {
    let inside = try enter { try InterfaceAddresses.current() }
    return addresses.contains { inside.contains($0.canonical) }
  }
}
