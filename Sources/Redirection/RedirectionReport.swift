import Vocabulary

/// What an operation did to a namespace.
public struct RedirectionReport: Equatable, Sendable {
  /// What was written, in the order of writing: `raw`, `mangle`, `nat`, `filter`, the same with `ip6 ` before it,
  /// `route v4`, `rule v4`, `route v6`, `rule v6`. Empty when everything was as wanted already.
  public var changed: [String]
  /// What could not be done and need not be, because the namespace cannot carry the traffic concerned.
  public var degradations: [RedirectionDegradation]

  public init(changed: [String] = [], degradations: [RedirectionDegradation] = []) {
    self.changed = changed
    self.degradations = degradations
  }
}

/// Something left out that no traffic can miss.
public enum RedirectionDegradation: CodedError, Equatable {
  /// `net.ipv6.conf.lo.disable_ipv6` is 1: the IPv6 route would be refused, and nothing can be delivered to `::1`.
  case ipv6DisabledOnLoopback
  /// The kernel runs without IPv6.
  case ipv6NotInKernel

  public var code: String {
    switch self {
    case .ipv6DisabledOnLoopback: "REDIRECTION_IPV6_DISABLED_ON_LOOPBACK"
    case .ipv6NotInKernel: "REDIRECTION_IPV6_NOT_IN_KERNEL"
    }
  }

  public var summary: String {
    switch self {
    case .ipv6DisabledOnLoopback:
      "IPv6 is disabled on the namespace's loopback interface, so its IPv6 route and policy rule were left out"
    case .ipv6NotInKernel: "the kernel has no IPv6, so no IPv6 rule was written"
    }
  }

  public var remedy: String? {
    switch self {
    case .ipv6DisabledOnLoopback:
      "set net.ipv6.conf.lo.disable_ipv6=0 in the namespace and apply again if IPv6 is wanted"
    case .ipv6NotInKernel: nil
    }
  }
}

/// One difference between a namespace and what it should hold, readable by a person.
public struct RedirectionDeviation: Equatable, Sendable, CustomStringConvertible {
  /// Where: `nat ISTIO_OUTPUT`, `ip6 raw`, `route v4`.
  public var subject: String
  /// What is different there.
  public var difference: String

  public init(subject: String, difference: String) {
    self.subject = subject
    self.difference = difference
  }

  public var description: String { "\(subject): \(difference)" }
}
