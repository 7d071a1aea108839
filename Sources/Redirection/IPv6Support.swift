import Glibc
import Linux
import Vocabulary

/// How much IPv6 a namespace has.
enum IPv6Support: Equatable, Sendable {
  case full
  /// `lo` has IPv6 disabled: the kernel refuses routes through it.
  case disabledOnLoopback
  /// The kernel was built or started without IPv6.
  case notInKernel

  /// Asks the network namespace the calling thread is in. Throws ``RedirectionError``.
  static func read() throws(RedirectionError) -> IPv6Support {
    // The kernel resolves /proc/sys/net in the namespace of the thread that opens it, unlike /proc/net.
    if let value = try KernelFile.read("/proc/sys/net/ipv6/conf/lo/disable_ipv6") {
      return value.first == "1" ? .disabledOnLoopback : .full
    }
    // The file alone does not prove it: where /proc/sys is hidden there may be IPv6 all the same, and then its traffic
    // must not go past us.
    do {
      _ = Descriptor(
        owning: try system("socket", "IPv6") {
          socket(AF_INET6, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        })
      return .full
    } catch  where error.number == EAFNOSUPPORT {
      return .notInKernel
    } catch {
      throw .unreadable(path: "IPv6", error)
    }
  }

  /// The families that can have rules.
  var families: [IPAddress.Family] { self == .notInKernel ? [.v4] : [.v4, .v6] }

  /// True when the family can have its route.
  func hasRoutes(_ family: IPAddress.Family) -> Bool { family == .v4 || self == .full }

  var degradations: [RedirectionDegradation] {
    switch self {
    case .full: []
    case .disabledOnLoopback: [.ipv6DisabledOnLoopback]
    case .notInKernel: [.ipv6NotInKernel]
    }
  }
}
