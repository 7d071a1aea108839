import Glibc
import Linux

/// Who connected to a unix socket, as the kernel saw it at the time of the connect (zds.md §14.14).
public struct PeerCredentials: Equatable, Sendable {
  public let process: Int32
  public let user: UInt32
  public let group: UInt32

  /// Asks the kernel. Throws ``ZDSError/system(_:)``.
  public init(of socket: CInt) throws(ZDSError) {
    // The kernel's struct ucred.
    var raw: (process: Int32, user: UInt32, group: UInt32) = (0, 0, 0)
    var length = socklen_t(MemoryLayout.size(ofValue: raw))
    do {
      try system("getsockopt", "SO_PEERCRED") { getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &raw, &length) }
    } catch { throw .system(error) }
    (process, user, group) = raw
  }
}
