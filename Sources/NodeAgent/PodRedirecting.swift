import Linux
import Redirection

/// Writes, proves and removes the capture of traffic inside a network namespace. Its methods block.
public protocol PodRedirecting: Sendable {
  /// Brings the namespace to these settings and reads back that it did. Changes nothing where nothing deviates. Leaves a
  /// fence as it is.
  func apply(_ settings: RedirectionSettings, in namespace: NetworkNamespace) throws -> RedirectionReport
  /// Looks at everything that has to be in place, and changes nothing.
  func prove(_ settings: RedirectionSettings, in namespace: NetworkNamespace) throws -> NamespaceProof
  /// Cuts the namespace off, except for loopback, host probes and ztunnel. True when that took a write.
  func raiseFence(_ settings: RedirectionSettings, in namespace: NetworkNamespace) throws -> Bool
  /// True when there was a fence.
  func lowerFence(in namespace: NetworkNamespace) throws -> Bool
  /// Takes all of it away, the fence last.
  func remove(from namespace: NetworkNamespace) throws -> RedirectionReport
}

extension Redirector: PodRedirecting {}
