import Linux
import Redirection

/// Writes, proves and removes the capture of traffic inside a network namespace. Its methods block.
public protocol PodRedirecting: Sendable {
  /// Brings the namespace to these settings and proves it. Changes nothing where nothing deviates.
  func apply(_ settings: RedirectionSettings, in namespace: NetworkNamespace) throws -> RedirectionReport
  /// What deviates from these settings; empty is the proof that capture is complete.
  func check(_ settings: RedirectionSettings, in namespace: NetworkNamespace) throws -> [RedirectionDeviation]
  /// Takes all of it away.
  func remove(from namespace: NetworkNamespace) throws -> RedirectionReport
}

extension Redirector: PodRedirecting {}
