import CLinux
import Glibc
import Vocabulary

/// An IP socket address in the kernel's form.
struct KernelAddress {
  private var storage = sockaddr_in6()
  private(set) var length: socklen_t

  /// For a socket of `family`: an IPv4 address becomes IPv4-mapped on an IPv6 socket.
  init(_ address: SocketAddress, for family: IPAddress.Family) {
    let (high, low): (UInt64, UInt64)
    switch (address.ip, family) {
    case (.v4(let value), .v4):
      var four = sockaddr_in()
      four.sin_family = sa_family_t(AF_INET)
      four.sin_port = address.port.bigEndian
      four.sin_addr.s_addr = value.bigEndian
      length = socklen_t(MemoryLayout<sockaddr_in>.size)
      withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: four, as: sockaddr_in.self) }
      return
    case (.v4(let value), .v6): (high, low) = (0, 0xffff_0000_0000 | UInt64(value))
    case (.v6(let upper, let lower), _): (high, low) = (upper, lower)
    }
    length = socklen_t(MemoryLayout<sockaddr_in6>.size)
    storage.sin6_family = sa_family_t(AF_INET6)
    storage.sin6_port = address.port.bigEndian
    withUnsafeMutableBytes(of: &storage.sin6_addr) {
      $0.storeBytes(of: high.bigEndian, as: UInt64.self)
      $0.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
    }
  }

  /// Room for an address the kernel will fill in.
  init() {
    length = socklen_t(MemoryLayout<sockaddr_in6>.size)
  }

  /// The address, IPv4-mapped IPv6 unwrapped; nil when it is of another family.
  var address: SocketAddress? {
    withUnsafeBytes(of: storage) { bytes in
      switch CInt(storage.sin6_family) {
      case AF_INET:
        let four = bytes.load(as: sockaddr_in.self)
        return SocketAddress(.v4(UInt32(bigEndian: four.sin_addr.s_addr)), UInt16(bigEndian: four.sin_port))
      case AF_INET6:
        guard let offset = MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr) else { return nil }
        let high = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        let low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self))
        return SocketAddress(.v6(high, low), UInt16(bigEndian: storage.sin6_port)).canonical
      default: return nil
      }
    }
  }

  func withPointer<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    withUnsafePointer(to: storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
    }
  }

  mutating func withMutablePointer<Result>(
    _ body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Result
  ) -> Result {
    withUnsafeMutablePointer(to: &storage) { storage in
      storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, &length) }
    }
  }
}
