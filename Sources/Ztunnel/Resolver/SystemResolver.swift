import Glibc
import Linux
import Vocabulary

/// The system's own lookup: `/etc/hosts`, `/etc/resolv.conf` and what else nsswitch names (services.md §5.1), in the
/// proxy's own network namespace. It blocks, so it runs on threads of its own.
struct SystemResolver: HostnameResolver {
  private let threads = BlockingThreads(limit: 8, mostWaiting: 256)
  private let asksForIPv6: Bool

  /// Addresses taken of one answer; more serve no choice.
  private static let mostAddresses = 64

  init(ipv6Enabled: Bool) { asksForIPv6 = ipv6Enabled }

  func lookUp(_ hostname: String, _ completion: @escaping @Sendable (Resolution) -> Void) {
    let family = asksForIPv6 ? AF_UNSPEC : AF_INET
    threads.submit {
      completion(Self.addresses(of: hostname, family))
    } orRefuse: {
      completion(.failure(.tooManyLookups))
    }
  }

  /// Blocks for as long as the name servers make it.
  static func addresses(of hostname: String, _ family: CInt) -> Resolution {
    var hints = addrinfo()
    hints.ai_family = family
    hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
    var first: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(hostname, nil, &hints, &first)
    guard status == 0 else {
      // EAI_NODATA and EAI_ADDRFAMILY: there is such a name, without addresses of the families asked for.
      if [EAI_NONAME, -5, -9].contains(status) { return .failure(.notFound) }
      return .failure(.failed(gai_strerror(status).map { String(cString: $0) } ?? "error \(status)"))
    }
    defer { freeaddrinfo(first) }
    var addresses: [IPAddress] = []
    var next = first
    while let entry = next?.pointee, addresses.count < mostAddresses {
      next = entry.ai_next
      guard let address = address(entry), !addresses.contains(address) else { continue }
      addresses.append(address)
    }
    return addresses.isEmpty ? .failure(.notFound) : .success(addresses)
  }

  private static func address(_ entry: addrinfo) -> IPAddress? {
    guard let raw = UnsafeRawPointer(entry.ai_addr) else { return nil }
    switch entry.ai_family {
    case AF_INET where entry.ai_addrlen >= socklen_t(MemoryLayout<sockaddr_in>.size):
      return .v4(UInt32(bigEndian: raw.loadUnaligned(as: sockaddr_in.self).sin_addr.s_addr))
    case AF_INET6 where entry.ai_addrlen >= socklen_t(MemoryLayout<sockaddr_in6>.size):
      return withUnsafeBytes(of: raw.loadUnaligned(as: sockaddr_in6.self).sin6_addr) { IPAddress(bytes: $0) }?.canonical
    default: return nil
    }
  }
}
