import CLinux
import Glibc
import Vocabulary

/// A host whose addresses could not be found.
public struct HostResolutionError: CodedError, Equatable {
  public let host: String
  /// The resolver's words.
  public let reason: String

  public var code: String { "HOST_NOT_RESOLVED" }
  public var summary: String { "\(host) is not resolved: \(reason)" }
}

/// Finds a host's addresses with the system's resolver, which blocks: each look-up has a thread of its own.
public enum HostResolver {
  /// Addresses in the resolver's order, without duplicates. Throws ``HostResolutionError``. The caller goes on where it
  /// was; the look-up is bounded by the resolver's own time-outs.
  public static func addresses(of host: String) async throws(HostResolutionError) -> [IPAddress] {
    let result = await withUnsafeContinuation { continuation in
      let job = Unmanaged.passRetained(Job(host, continuation))
      var thread = pthread_t()
      let status = pthread_create(
        &thread, nil,
        { argument in
          if let argument { Unmanaged<Job>.fromOpaque(argument).takeRetainedValue().run() }
          return nil
        }, job.toOpaque())
      guard status == 0 else {
        job.release()
        continuation.resume(
          returning: .failure(HostResolutionError(host: host, reason: "the system has no thread left")))
        return
      }
      pthread_detach(thread)
    }
    return try result.get()
  }

  private typealias Answer = Result<[IPAddress], HostResolutionError>

  private final class Job: Sendable {
    let host: String
    let continuation: UnsafeContinuation<Answer, Never>

    init(_ host: String, _ continuation: UnsafeContinuation<Answer, Never>) {
      self.host = host
      self.continuation = continuation
    }

    func run() { continuation.resume(returning: HostResolver.lookUp(host)) }
  }

  private static func lookUp(_ host: String) -> Answer {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(host, nil, &hints, &list)
    guard status == 0 else {
      return .failure(HostResolutionError(host: host, reason: String(cString: gai_strerror(status))))
    }
    defer { freeaddrinfo(list) }
    var addresses: [IPAddress] = []
    var entry = list
    while let info = entry?.pointee {
      if let address = address(info), !addresses.contains(address) { addresses.append(address) }
      entry = info.ai_next
    }
    return addresses.isEmpty
      ? .failure(HostResolutionError(host: host, reason: "it has no address")) : .success(addresses)
  }

  private static func address(_ info: addrinfo) -> IPAddress? {
    guard let raw = info.ai_addr else { return nil }
    switch info.ai_family {
    case AF_INET where Int(info.ai_addrlen) >= MemoryLayout<sockaddr_in>.size:
      let four = UnsafeRawPointer(raw).loadUnaligned(as: sockaddr_in.self)
      return .v4(UInt32(bigEndian: four.sin_addr.s_addr))
    case AF_INET6 where Int(info.ai_addrlen) >= MemoryLayout<sockaddr_in6>.size:
      let six = UnsafeRawPointer(raw).loadUnaligned(as: sockaddr_in6.self)
      return withUnsafeBytes(of: six.sin6_addr) { IPAddress(bytes: $0) }
    default: return nil
    }
  }
}
