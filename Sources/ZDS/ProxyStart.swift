import Linux

/// A network namespace as far as the workload manager needs to know it.
public protocol IdentifiedNamespace: Sendable {
  var identity: NamespaceIdentity { get }
}

extension NetworkNamespace: IdentifiedNamespace {}

/// One run of one workload's proxy. A workload that is added anew gets a new one, so that the end of the old proxy
/// is never taken for the end of the new one.
public struct ProxyID: Hashable, Sendable, CustomStringConvertible {
  public let uid: WorkloadUID
  /// Grows by one with each attempt to start a proxy in this process.
  public let attempt: UInt64

  public var description: String { "\(uid)#\(attempt)" }
}

/// What to start: a proxy for this workload, inside this namespace.
public struct ProxyStart<Namespace: IdentifiedNamespace>: Sendable {
  public let id: ProxyID
  public let info: WorkloadInfo
  public let namespace: Namespace
}

/// How a proxy ends (zds.md §8).
public enum DrainMode: Sendable, Equatable {
  /// Something else takes its place: cut every connection now.
  case immediate
  /// The workload is gone: tell peers, and let what its application has just ended be passed on; a moment, no more.
  case removal
  /// The process is leaving: stop listening, let connections finish until the deadline.
  case graceful
}
