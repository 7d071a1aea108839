import Linux

/// What one write of the redirection did.
public struct AppliedRedirection: Equatable, Sendable {
  /// One line for each thing that was changed; empty when everything was as it should be.
  public var changed: [String]
  /// What the kernel could not give, and what that means.
  public var degradations: [String]

  public init(changed: [String] = [], degradations: [String] = []) {
    self.changed = changed
    self.degradations = degradations
  }
}

/// Writes, proves and removes the capture of traffic inside a network namespace. Its methods block.
public protocol PodRedirecting: Sendable {
  /// Brings the namespace to these settings. Changes nothing where nothing deviates.
  func apply(_ settings: CaptureSettings, in namespace: NetworkNamespace) throws -> AppliedRedirection
  /// One line for each deviation from these settings; empty is the proof that capture is complete.
  func check(_ settings: CaptureSettings, in namespace: NetworkNamespace) throws -> [String]
  /// Takes all of it away.
  func remove(from namespace: NetworkNamespace) throws -> AppliedRedirection
}
