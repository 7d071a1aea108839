import CLinux
import Glibc
import Linux

/// A path short enough for a socket's address (zds.md T4).
public struct UnixSocketPath: Sendable, CustomStringConvertible {
  public let text: String

  /// Bytes of a path without its final zero.
  public static let maximumLength = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1

  /// Throws ``ZDSError/pathTooLong(_:limit:)``, also for an empty path or one with a zero byte.
  public init(_ text: String) throws(ZDSError) {
    guard !text.isEmpty, text.utf8.count <= Self.maximumLength, !text.utf8.contains(0) else {
      throw .pathTooLong(text, limit: Self.maximumLength)
    }
    self.text = text
  }

  public var description: String { text }

  /// Calls `body` with the address as the kernel wants it.
  func withAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: text.utf8) }
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
  }

  /// A stream connected to the socket, whose calls give up after some seconds. Blocks. Throws ``SystemError``.
  public func connectedStream(timeoutSeconds: Int) throws(SystemError) -> Descriptor {
    let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    let descriptor = Descriptor(owning: try system("socket", text) { socket(AF_UNIX, kind, 0) })
    let raw = descriptor.raw
    var limit = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
    for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
      try system("setsockopt", text) {
        setsockopt(raw, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
      }
    }
    try system("connect", text) { withAddress { connect(raw, $0, $1) } }
    return descriptor
  }

  /// The directory the socket lies in.
  var directory: String {
    guard let slash = text.lastIndex(of: "/") else { return "." }
    return slash == text.startIndex ? "/" : String(text[..<slash])
  }
}
