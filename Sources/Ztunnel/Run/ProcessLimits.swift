import CLinux
import Glibc
import Linux
import Vocabulary

/// A right the process lacks.
enum CapabilityError: CodedError, Equatable {
  /// Network namespaces cannot be entered.
  case namespaces(SystemError)
  /// Sockets cannot be marked.
  case marks(SystemError)

  var code: String { "CAPABILITY_MISSING" }

  var summary: String {
    switch self {
    case .namespaces(let error): "network namespaces cannot be entered: \(error.summary)"
    case .marks(let error): "sockets cannot be marked: \(error.summary)"
    }
  }

  var remedy: String? {
    switch self {
    case .namespaces: "run as root with CAP_SYS_ADMIN"
    case .marks: "run as root with CAP_NET_ADMIN"
    }
  }
}

/// What the process needs of its system, checked before anything depends on it.
enum ProcessLimits {
  /// Proves that namespaces can be entered and sockets marked (zds.md §7). Throws ``CapabilityError``.
  static func checkCapabilities(mark: UInt32?) throws(CapabilityError) {
    // Into the namespace we are in: harmless, and it takes the same right as into a pod's.
    do throws(SystemError) {
      try system("setns") { ambient_setns_net(NetworkNamespace.home.descriptor.raw) }
    } catch { throw .namespaces(error) }
    guard let mark else { return }
    do throws(SystemError) {
      let socket = try TCPSocket.make(.v4)
      try TCPSocket.setMark(socket.raw, mark)
    } catch { throw .marks(error) }
  }
}
